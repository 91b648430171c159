"""Run lessons whole, slow cells too, and hold what they say against what is saved: `python .ci/rerun.py [01 03 ...]`.

Without a number all lessons run, one after the other, each in its folder, as a reader would run them. Compared is what a reader
reads: printed lines and shown values, tables by their words, and how many pictures a cell draws. Not compared is what changes from
one machine or day to the next: what goes to stderr, bars and live tables of progress, banners, a number with a unit of time or speed or in a column
(or a table) that is headed by one, paths, addresses in memory, dates. `--within .05` lets numbers differ by so much of the larger one, where
words are the same: another processor adds in another order. `--save DIR` writes the lessons as they came out, after each cell; called
again it takes those that lie there whole, with the same cells, and runs the others.

Hidden cells that hold what the text says of trained nets do so here alone (`FUNDUS_RERUN`): on a reader's machine a net learns
otherwise, and *Run all* is to go on. It exits 1 where a lesson differs or fails.
"""
import argparse, os, re, sys, time
from html.parser import HTMLParser
from pathlib import Path
import nbformat
from links import root

LESSONS = root/'nbs'/'lessons'
TIME = re.compile(r'\b(s|ms|seconds?|minutes?|hours?|memory)\b|/s\b', re.I) # in the head of a column or a table
NUMBER = re.compile(r'[-+]?(?:\d[\d,]*)?\.?\d+(?:e[-+]?\d+)?', re.I)
CHANGES = [(re.compile(r'\x1b\[[0-9;?]*[A-Za-z]'), ''),
           (re.compile(r'(/[\w.+-]+){2,}/?'), '<path>'),
           (re.compile(r'\b0x[0-9a-f]+'), '<address>'),
           (re.compile(r'\b20\d\d-\d\d-\d\d([T ]\d\d:\d\d(:\d\d)?)?'), '<date>'),
           (re.compile(r'\b\d+:\d\d(:\d\d)?\b'), '<time>'),
           (re.compile(r'\b\d[\d.,]*\s*(s|ms|sec|seconds|min|minutes|h|hours)\b(?!\w)'), '<time>')]

class Words(HTMLParser):
    "The words of HTML, and its tables as rows of cells"
    def __init__(self):
        super().__init__()
        self.lines,self.table,self.skip,self.cell = [''],None,0,None
    def handle_starttag(self, tag, attrs):
        if tag in ('style','script','svg'): self.skip += 1
        elif tag=='table': self.table = []
        elif tag=='tr' and self.table is not None: self.table.append([])
        elif tag in ('td','th') and self.table: self.cell = [tag, '', int(dict(attrs).get('colspan') or 1)]
        elif tag in ('p','div','br','li'): self.lines.append('')
    def handle_endtag(self, tag):
        if tag in ('style','script','svg'): self.skip -= 1
        elif tag in ('td','th') and self.cell:
            self.table[-1] += [self.cell[:2]]*self.cell[2]
            self.cell = None
        elif tag=='table' and self.table is not None:
            self.lines += untimed(self.table)
            self.table = None
    def handle_data(self, data):
        if self.skip: return
        if self.cell: self.cell[1] += data
        else: self.lines[-1] += data

def untimed(table):
    "The rows of `table` as text, without the numbers of columns that are times; of all where its corner says so"
    heads = [r for r in table if r and all(k=='th' for k,_ in r)]
    timed = {len(r)-i for r in heads for i,(_,t) in enumerate(r) if TIME.search(t)} # from the right: rows may lack names
    whole = any(r and TIME.search(r[0][1]) and len(r)>1 for r in heads)
    for row in table:
        cells = [t.strip() if k=='th' or not (whole or len(row)-i in timed) else NUMBER.sub('<time>', t.strip())
                 for i,(k,t) in enumerate(row)]
        yield ' | '.join(cells)

def said(outputs):
    "What a reader reads in `outputs`, line by line"
    lines,pictures = [],0
    for o in outputs:
        data = o.get('data', {})
        if 'fastprogress' in data.get('text/html', '') or data.get('text/plain')=='<IPython.core.display.HTML object>': continue
        pictures += any(k.startswith('image/') for k in data)
        if o['output_type']=='error': lines.append(f"{o['ename']}: {o['evalue']}")
        if o['output_type']=='stream' and o['name']=='stdout' and '\r' not in o['text']: lines += o['text'].splitlines()
        if 'text/html' in data:
            w = Words()
            w.feed(data['text/html'])
            lines += w.lines
        elif 'text/markdown' in data: lines += data['text/markdown'].splitlines()
        elif not any(k.startswith('image/') for k in data): lines += data.get('text/plain', '').splitlines()
    for rx,to in CHANGES: lines = [rx.sub(to, l) for l in lines]
    return [l for l in (' '.join(l.split()) for l in lines) if l] + [f'({pictures} pictures)']*(pictures>0)

def numbers(line): return [float(o.replace(',', '')) for o in NUMBER.findall(line)]

def alike(a, b, within):
    "Are two lines the same, but for numbers that differ by the share `within` at most?"
    if a==b: return True
    if not within or NUMBER.sub('#', a)!=NUMBER.sub('#', b): return False
    return all(abs(x-y)<=within*max(abs(x), abs(y)) for x,y in zip(numbers(a), numbers(b)))

def differences(old, new, within=0.):
    "Of each code cell of `new` that does not say what it said in `old`: its number, first line, and what was and is said"
    for i,(a,b) in enumerate(zip(old.cells, new.cells)):
        if a.source!=b.source: raise ValueError(f"cell {i} is not the same in both")
        if a.cell_type!='code': continue
        was,now = said(a.outputs),said(b.outputs)
        if len(was)==len(now) and all(alike(x, y, within) for x,y in zip(was, now)): continue
        first = next((l for l in a.source.splitlines() if not l.startswith('#|')), '')
        yield i,first,[o for o in was if o not in now],[o for o in now if o not in was]

def rerun(nb, folder, save=None):
    "A copy of `nb`, executed in `folder`; the error that ended it, if any"
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, DeadKernelError
    new = nbformat.from_dict(nb)
    for c in new.cells:
        if c.cell_type=='code': c.outputs = []
    def kept(**kw):
        if save: nbformat.write(new, save)
    client = NotebookClient(new, timeout=None, kernel_name='python3', resources={'metadata':{'path':str(folder)}},
                            on_cell_executed=kept)
    try:
        client.execute()
        new.metadata['rerun'] = 'whole'
    except (CellExecutionError, DeadKernelError) as e: return new,str(e).strip().splitlines()[-1]
    finally: kept()
    return new,''

def whole(nb, save):
    "What an earlier call has left of `nb` in the file `save`, if it came to its end and `nb` has the same cells"
    if not save or not save.exists(): return None
    new = nbformat.read(save, as_version=4)
    if new.metadata.get('rerun')=='whole' and [o.source for o in new.cells]==[o.source for o in nb.cells]: return new

def told(name, nb, new, error, within):
    "Print what differs; whether anything does"
    found = list(differences(nb, new, within))
    for i,first,was,now in found:
        print(f'  [{i}] {first[:90]}')
        for sign,lines in (('-',was),('+',now)): print(*(f'      {sign} {l[:160]}' for l in lines[:12]), sep='\n')
    if error: print(f'  ended by {error}')
    return bool(found or error)

def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('lessons', nargs='*', help="how their names begin (default: all)")
    p.add_argument('--within', type=float, default=0., help="numbers may differ by this share")
    p.add_argument('--save', type=Path, help="folder for the lessons as they came out")
    args = p.parse_args()
    os.environ.pop('MPLBACKEND', None) # the notebook's own
    os.environ['FUNDUS_RERUN'] = '1' # hidden cells hold what the text says of this machine's nets
    if args.save: args.save.mkdir(parents=True, exist_ok=True)
    changed = []
    for f in sorted(LESSONS.glob('*.ipynb')):
        if args.lessons and not f.name.startswith(tuple(args.lessons)): continue
        t,nb,save = time.time(),nbformat.read(f, as_version=4),args.save and args.save/f.name
        done = whole(nb, save)
        new,error = (done,'') if done else rerun(nb, LESSONS, save)
        print(f"{f.stem}, {'as it lies there' if done else f'{(time.time()-t)/60:.1f} minutes'}", flush=True)
        if told(f.stem, nb, new, error, args.within): changed.append(f.name[:2])
    print('differ: '+', '.join(changed) if changed else 'all say what is saved')
    return int(bool(changed))

if __name__=='__main__': sys.exit(main())
