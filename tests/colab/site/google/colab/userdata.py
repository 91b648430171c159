"Secrets: only the kernel of the notebook may ask for them, as in Colab, where the answer comes from the browser"
import json, os
from pathlib import Path
from IPython import get_ipython
from google.colab import errors

class NotebookAccessError(Exception):
    def __init__(self, key): super().__init__(f'Notebook does not have access to secret {key}')

class SecretNotFoundError(errors.Error):
    def __init__(self, key): super().__init__(f'Secret {key} does not exist.')

def get(key):
    "The secret `key`; the file `secrets.json` has a text for each name, `None` where the notebook may not read it"
    get_ipython().kernel # of a process of its own, as `!fundus`, there is none, and this raises as Colab does
    kept = json.loads((Path(os.environ['COLAB_STUB'])/'secrets.json').read_text())
    if key not in kept: raise SecretNotFoundError(key)
    if kept[key] is None: raise NotebookAccessError(key)
    return kept[key]
