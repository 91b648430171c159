"How the lessons are made small, and what is real switched on: one table, which fails where a page no longer says what it says here"
import re

PATIENTS = {'kermany2018':100, '':40} # of the sets that the stub of Kaggle serves; Kermany's have four scans each
EVERYWHERE = {r'torch\.cuda\.is_available\(\)':'True'} # a CPU in place of the GPU: the page believes in one, the library knows there is none
PAGES = {}

def small(name, nb):
    "Replace texts in the cells of `nb`, the page `name`; what was done, in sentences"
    cells = [o for o in nb.cells if o.cell_type=='code']
    done = []
    for k,v in PAGES.get(name, {}).items():
        hits = [o for o in cells if k in o.source]
        if not hits: raise LookupError(f'{name} no longer says {k!r}: mend tests/colab/small.py')
        for o in hits: o.source = o.source.replace(k, v)
        done.append(f'{k} -> {v}')
    for k,v in EVERYWHERE.items():
        for o in cells: o.source = re.sub(k, v, o.source)
    return ['small: '+'; '.join(done)] if done else []
