# What the kernel does before the first cell: a question of a page is answered with yes, where nobody sits
from IPython import get_ipython

def answer(prompt=''):
    print(prompt.rstrip(), 'yes')
    return 'yes'

get_ipython().kernel.raw_input = answer
del answer, get_ipython
