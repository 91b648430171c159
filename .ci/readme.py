"""Render README.md from nbs/index.ipynb: hidden cells and directives fall away, links lead into the repository.

Of a cell with `#| echo: false` only the output is shown. An output is its picture or its plain text: what is styled for a
notebook would lose its style on the way.

With `--check` nothing is written, and it exits 1 if README.md is out of step.
"""
import re, sys
import nbformat
from traitlets.config import Config
from nbconvert import MarkdownExporter
from links import root, settings

def shown(cell):
    "Is `cell` for the reader?"
    return not re.search(r'^#\|\s*(hide|default_exp)\b', cell.source, re.M)

def plain(cell):
    "Make of `cell`, in place, what a README can show"
    if re.search(r'^#\|\s*echo:\s*false\b', cell.source, re.M): cell.metadata['tags'] = ['quiet']
    cell.source = re.sub(r'^#\|.*\n', '', cell.source, flags=re.M)
    for o in cell.get('outputs', []): o.get('data', {}).pop('text/html', None)
    cell.outputs = [o for o in cell.get('outputs', []) if o.get('data', {}).get('text/plain')!='<IPython.core.display.HTML object>']

def render():
    "README's text, and the pictures that go with it as a dict from path to bytes"
    cfg,nb = settings(),nbformat.read(root/'nbs'/settings()['readme_nb'], as_version=4)
    nb.cells = [o for o in nb.cells if shown(o)]
    for o in nb.cells: plain(o)
    nb.metadata['language_info'] = dict(name='python')
    md,res = MarkdownExporter(config=Config(TagRemovePreprocessor=dict(enabled=True, remove_input_tags={'quiet'}))).from_notebook_node(nb, resources={'output_files_dir': 'README_files'})
    at = f"https://github.com/{cfg['user']}/{cfg['repo']}/blob/{cfg['branch']}/nbs"
    md = re.sub(r'\]\((?!https?:)([^)\s]+\.ipynb)', rf']({at}/\1', md)
    md = re.sub(r'\n +\n!\[\w+\]', '\n\n![A scan, a map, the truth (phantom)]', md)
    return re.sub(r'\n{3,}', '\n\n', md).strip()+'\n', res.get('outputs', {})

def main(check=False):
    md,pictures = render()
    files = {'README.md': md.encode(), **pictures}
    stale = [k for k,v in files.items() if not (root/k).exists() or (root/k).read_bytes()!=v]
    for k in stale:
        print(f"{k}: {'out of step with index.ipynb: run python .ci/readme.py' if check else 'written'}")
        if check: continue
        (root/k).parent.mkdir(exist_ok=True)
        (root/k).write_bytes(files[k])
    return 1 if check and stale else 0

if __name__=='__main__': sys.exit(main('--check' in sys.argv[1:]))
