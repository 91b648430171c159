"""How pages are made small, and what is real switched on.

A page that is to be proved in minutes trains for two epochs on few patients and small pictures, the same cells otherwise. So what it
asserts of a net that has learned something may not hold: the harness tells of that as a claim, not as a fault.
"""
import re

PATIENTS = {'kermany2018':100, '':40} # of the sets that the stub of Kaggle serves; Kermany's have four scans each
CAPS = {'epochs':2, 'patients':48, 'seeds':1, 'masks':50, 'bs':16} # arguments: the most that is let through
SIZES = {str(o):'80' for o in (112,128,224,448)} # sides of what a net sees; InceptionV3 wants 75 at least
SWITCHES = {r'torch\.cuda\.is_available\(\)':'True', # a CPU in the GPU's place: the page believes in one, the library knows of none
            r'^the_real_thing = False':'the_real_thing = True'}
PAGES = {} # page -> texts and what stands for them

def capped(text):
    "`text` of a cell with smaller numbers"
    def cap(m): return f'{m[1]}={min(int(m[2]), CAPS[m[1]])}'
    text = re.sub(rf"\b({'|'.join(CAPS)})=(\d+)\b", cap, text)
    return re.sub(r'\bsize=(\d+)\b', lambda m: 'size='+SIZES.get(m[1], m[1]), text)

def switched(text):
    "`text` of a cell that believes in a GPU, and does what is real"
    for k,v in SWITCHES.items(): text = re.sub(k, v, text, flags=re.M)
    return text

def small(name, nb):
    "Make the page `name` small, in place; what was done in a sentence, and complaints about what the page no longer says"
    cells,lost = [o for o in nb.cells if o.cell_type=='code'],[]
    for k,v in PAGES.get(name, {}).items():
        if not any(k in o.source for o in cells): lost.append(f'the page no longer says {k!r}: mend tests/colab/small.py')
        for o in cells: o.source = o.source.replace(k, v)
    changed = 0
    for o in cells:
        new = switched(capped(o.source))
        changed += new!=o.source
        o.source = new
    return ([f'made small in {changed} cells'] if changed else []),lost
