"""How pages are made small, and what is real switched on.

Every lesson has a small form of its own, `quick`, whose claims hold. What a page does on a GPU alone has none, so here it trains on few
and small pictures, the same cells otherwise; what such a page asserts of a net that has learned something may not hold then, and the
harness tells of that as a claim, not as a fault.
"""
import re

PATIENTS = {'kermany2018':100, '':40} # of the sets that the stub of Kaggle serves; Kermany's have four scans each
QUICK = {r"^quick = 'IN_TEST' in os\.environ":'quick = True',
         r'torch\.cuda\.is_available\(\)':'True'} # a CPU in the GPU's place: the page believes in one, the library knows of none
PAGES = {'01_can_a_net_read_an_oct': { # the real scans, which `quick` would not ask for; InceptionV3 wants 75 pixels at least
             "quick = 'IN_TEST' in os.environ":'quick = False',
             "large = dict(weights='imagenet', epochs=4, bs=64)":"large = dict(weights='imagenet', epochs=2, bs=16, size=80)"},
         '09_which_net_is_best': { # two of the sixteen nets, for seconds
             'torch.cuda.is_available() and not quick':'True', 'patients=2000':'patients=48', 'minutes=10':'minutes=.05',
             'size=224':'size=64', "compare_nets(eyes, 'sex', SIXTEEN,":"compare_nets(eyes, 'sex', SIXTEEN[:2],"},
         '64_run.compare': {'patients=2000':'patients=48', 'CompareOptions(minutes=10)':'CompareOptions(minutes=.05, size=64)',
                            "'oct', SIXTEEN,":"'oct', SIXTEEN[:2],"}}

def small(name, nb):
    "Make the page `name` small, in place; what was done in a sentence, and complaints about what the page no longer says"
    cells,lost = [o for o in nb.cells if o.cell_type=='code'],[]
    for k,v in PAGES.get(name, {}).items():
        if not any(k in o.source for o in cells): lost.append(f'the page no longer says {k!r}: mend tests/colab/small.py')
        for o in cells: o.source = o.source.replace(k, v)
    for k,v in QUICK.items():
        for o in cells: o.source = re.sub(k, v, o.source, flags=re.M)
    return ['what is real was made small, so what it claims may not hold'] if name in PAGES and not lost else [], lost
