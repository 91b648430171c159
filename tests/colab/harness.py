"""Run pages as a Colab would: python tests/colab [PAGE ...] [--out FOLDER] [--no-kill] [--full] [--on]

A page is a path, or the beginning of the name of a lesson (`01`) or of another page (`34`); without one all lessons run. Each page runs on a new runtime, all its
cells in order, whatever their flags say. While it trains, its kernel is killed; then it runs on another runtime with the same Drive and
has to go on. What comes out is a table of pages, also as CSV, one of cells, and the pages as executed; the status is 1 where a cell
did not run, failed, or trained anew what lay on Drive.
"""
import argparse, json, re, sys, tempfile, threading, time
from dataclasses import asdict, dataclass, field
from pathlib import Path
import nbformat, pandas as pd, psutil
from nbclient import NotebookClient
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from safetensors import safe_open
from colab.machine import ROOT, Machine
from colab.small import PATIENTS, small

PATIENCE = 3600 # seconds for a cell
NOISE = re.compile(r'\x1b\[[0-9;?]*[A-Za-z]')

@dataclass
class Cell:
    "What became of a code cell"
    page:str
    cell:int
    flags:str
    state:str='not run' # 'ran', 'claim' (an assertion of the page does not hold in its small form), 'failed', 'killed'
    seconds:float=0.
    said:str='' # its last line
    error:str=''

@dataclass
class Pass:
    "A page, run once on one runtime"
    cells:list
    nb:object
    seconds:float=0.
    peak:int=0 # bytes of the kernel and all it started, at their highest
    killed:Cell=None

@dataclass
class Page:
    "What became of a page: the passes, and what lay on Drive when it was killed"
    name:str
    passes:list = field(default_factory=list)
    kept:dict = field(default_factory=dict) # run -> rows of its history at the kill
    faults:list = field(default_factory=list)
    notes:list = field(default_factory=list)

def last_line(outputs, n=90):
    "The last line that `outputs` print or show as text; a figure is told as one"
    for o in reversed(outputs):
        data = o.get('data', {})
        text = o.get('text') or data.get('text/plain', '')
        if 'image/png' in data or 'image/jpeg' in data: text = '(a figure)'
        lines = [l.strip() for l in NOISE.sub('', ''.join(text)).replace('\r', '\n').splitlines() if l.strip()]
        if lines: return lines[-1][:n]
    return ''

def mistake(outputs):
    "The error among `outputs` as one line, and whether it is an assertion of the page itself"
    e = next((o for o in outputs if o.output_type=='error'), None)
    if e is None: return '',False
    frames = NOISE.sub('', '\n'.join(e.traceback))
    return f'{e.ename}: {e.evalue}'.strip().splitlines()[0][:300], e.ename=='AssertionError' and 'fundus_fastai/' not in frames

def tree(pid):
    "The process `pid` and all that it has started"
    try:
        p = psutil.Process(pid)
        return [p, *p.children(recursive=True)]
    except psutil.NoSuchProcess: return []

def weight(procs):
    "Bytes that processes hold in memory"
    def rss(p):
        try: return p.memory_info().rss
        except psutil.Error: return 0
    return sum(map(rss, procs))

def kill(procs):
    "End processes at once, as a runtime that is taken away"
    for p in procs:
        try: p.kill()
        except psutil.NoSuchProcess: continue

class Watch(threading.Thread):
    "Measures the memory of a kernel, and kills it once `due(source, seconds)` says so of the cell that runs"
    def __init__(self, pid, due=None):
        super().__init__(daemon=True)
        self.pid,self.due,self.peak,self.source,self.since,self.over,self.killed = pid,due,0,None,0,threading.Event(),False
    def begin(self, source): self.source,self.since = source,time.time()
    def end(self): self.source = None
    def run(self):
        while not self.over.wait(.2):
            procs,source = tree(self.pid),self.source
            self.peak = max(self.peak, weight(procs))
            if self.due and source is not None and self.due(source, time.time()-self.since):
                self.killed = True
                kill(tree(self.pid))
                return

def run_pass(page, nb, machine, due=None, *, lenient=False, on=False, log=print):
    "Run the cells of `nb` on a new runtime of `machine`; after an error only with `on`, after an assertion where it is `lenient`"
    env,cells,t0 = machine.fresh(),[],time.time()
    client = NotebookClient(nb, timeout=PATIENCE, kernel_name='python3', allow_errors=True, coalesce_streams=True)
    with client.setup_kernel(env=env, cwd=str(machine.content)):
        watch = Watch(client.km.provisioner.pid, due)
        watch.start()
        for i,o in enumerate(nb.cells):
            if o.cell_type!='code' or not o.source.strip(): continue
            c = Cell(page, i, ' '.join(re.findall(r'^#\|\s*(slow|cuda|net)\b', o.source, re.M)))
            cells.append(c)
            if watch.killed or (not on and any(k.state=='failed' for k in cells)): continue
            o.source,t = machine.placed(o.source),time.time()
            watch.begin(o.source)
            try: client.execute_cell(o, i)
            except DeadKernelError as e: c.state,c.error = ('killed' if watch.killed else 'failed'),'' if watch.killed else str(e)
            except CellTimeoutError: c.state,c.error = 'failed',f'it ran for more than {PATIENCE} seconds'
            else:
                c.error,claim = mistake(o.outputs)
                c.state = 'ran' if not c.error else 'claim' if claim and lenient else 'failed'
            watch.end()
            c.seconds,c.said,c.error = round(time.time()-t, 2),machine.told(last_line(o.outputs)),machine.told(c.error)
            if c.seconds>5 or c.state!='ran': log(f"    cell {i:3} {c.state:8} {c.seconds:6.1f} s  {c.error or c.said}")
        watch.over.set()
        watch.join()
    died = next((o for o in cells if o.state=='killed'), None)
    return Pass(cells, nb, round(time.time()-t0, 1), watch.peak, died)

def checkpoints(machine): return sorted(o for o in machine.root.glob('[dr]*/**/checkpoints/last.safetensors'))

def rows_of(path):
    "The epochs that a checkpoint knows of"
    with safe_open(path, 'pt') as f: return json.loads(f.metadata()['fundus'])['rows']

def kill_time(machine, source):
    "When to kill a page: at its first checkpoint; where it never makes one, three seconds into a training"
    old,plain = set(checkpoints(machine)),not re.search(r'on_drive|train_run|compare_nets|out=', source)
    def due(cell, seconds):
        if set(checkpoints(machine))-old: return True
        return plain and seconds>3 and bool(re.search(r'\.fit\w*\(', cell))
    return due

def same(a, b):
    "Are two values of a history one, after a CSV?"
    if isinstance(a, str) or isinstance(b, str): return a==b
    return pd.isna(a) and pd.isna(b) or abs(a-b)<1e-12

def went_on(machine, kept):
    "Complaints about runs on Drive that do not begin with the epochs that were `kept` at the kill"
    for run,rows in kept.items():
        file,last = machine.drive/run/'history.csv',machine.drive/run/'checkpoints'/'last.safetensors'
        if file.exists(): now = pd.read_csv(file).to_dict('records')
        elif last.exists(): now = rows_of(last)
        else: yield f'{run} was on Drive with {len(rows)} epochs and did not end'; continue
        if now and now[0].get('stage')=='readout': now = now[1:] # no epoch of the net, but the first of the history
        named = ('stage','epoch') # which a history with a readout tells in its own way
        whole = len(now)>=len(rows) and all(k in a and same(a[k], v) for a,b in zip(now, rows) for k,v in b.items() if k not in named)
        if not whole: yield f'{run} had {len(rows)} epochs on Drive, and was trained anew'

def run_page(path, machine, *, killing=True, full=False, on=False, log=print):
    "Run the page `path`: until it trains and is killed, and then again"
    path = Path(path)
    res,nb = Page(path.stem),nbformat.read(path, as_version=4)
    if not full: res.notes,res.faults = small(path.stem, nb)
    source = '\n'.join(o.source for o in nb.cells if o.cell_type=='code')
    machine.forget()
    log(f'{res.name}')
    lenient,asked = bool(res.notes),len(machine.shop.asked_for)
    due = kill_time(machine, source) if killing else None
    def once(due=None): res.passes.append(run_pass(res.name, nbformat.from_dict(json.loads(json.dumps(nb))), machine, due,
                                                      lenient=lenient, on=on, log=log))
    once(due)
    if first := res.passes[0].killed:
        res.kept = {o.parents[1].relative_to(machine.drive).as_posix():rows_of(o) for o in checkpoints(machine) if machine.drive in o.parents}
        epochs = sum(map(len, res.kept.values()))
        log(f'    killed in cell {first.cell} after {first.seconds:.0f} s; on Drive: {", ".join(res.kept) or "no checkpoint"}')
        once()
        res.faults += went_on(machine, res.kept)
        res.notes.append(f'killed in cell {first.cell}; {epochs} epochs on Drive' + (' were kept' if epochs and not res.faults else ''))
        if 'on_drive(' in source and not epochs: res.faults.append('it calls on_drive and had no checkpoint on Drive when it was killed')
    elif killing and 'on_drive(' in source: res.notes.append('never killed: no checkpoint was written')
    got = [k for o,k in machine.shop.asked_for[asked:] if o.startswith('Download')]
    res.notes += [f'{k} was downloaded {got.count(k)} time{"s"[:got.count(k)>1]} in {len(res.passes)} runtime{"s"[:len(res.passes)>1]}' for k in dict.fromkeys(got)]
    if left := [o.stat().st_size for o in machine.drive.rglob('*') if o.is_file()]: res.notes.append(f'{len(left)} files on Drive at the end, {sum(left)/1e6:.1f} MB')
    res.faults += [f'cell {o.cell} {o.state}: {o.error or "the page had stopped before"}' for o in final(res) if o.state in ('failed','not run')]
    return res

def final(page):
    "The best that became of each cell in all passes"
    rank = ['ran','claim','failed','killed','not run']
    return [min(o, key=lambda c: rank.index(c.state)) for o in zip(*(p.cells for p in page.passes))]

def row(page):
    "A page as a row of the table"
    cells,whole = final(page),page.passes[-1]
    count = {k:sum(o.state==k for o in cells) for k in ('ran','claim','failed','not run','killed')}
    said = [o.said for o in whole.cells if o.said and o.said!='(a figure)']
    return {'page':page.name, 'cells':len(cells), 'run':count['ran']+count['claim'], 'not run':count['not run']+count['killed'],
            'failed':count['failed'], 'claims':count['claim'], 'killed at':page.passes[0].killed.cell if page.passes[0].killed else '',
            'kept':sum(map(len, page.kept.values())) if page.kept else '', 'seconds':whole.seconds,
            'MB':round(max(p.peak for p in page.passes)/1e6), 'last':said[-1] if said else ''}

def report(pages):
    "The table, and under it what is to be known of each page"
    table = pd.DataFrame([row(o) for o in pages])
    text = [table.assign(last=table['last'].str[:60]).to_string(index=False)]
    for o in pages:
        claims = [f'cell {c.cell} claims what does not hold in the small form: {c.error[:120]}' for c in final(o) if c.state=='claim']
        text += [f'\n{o.name}', *(f'  {k}' for k in o.notes+claims), *(f'  FAULT: {k}' for k in o.faults)]
    return table, '\n'.join(text)+'\n'

def keep(pages, text, table, out, machine):
    "Write tables and executed pages to the folder `out`"
    out.mkdir(parents=True, exist_ok=True)
    (out/'pages.txt').write_text(text)
    table.to_csv(out/'pages.csv', index=False)
    cells = [dict(asdict(c), run=i) for o in pages for i,p in enumerate(o.passes, 1) for c in p.cells]
    pd.DataFrame(cells).to_csv(out/'cells.csv', index=False)
    for o in pages: (out/f'{o.name}.ipynb').write_text(machine.told(nbformat.writes(o.passes[-1].nb)))

def find_pages(names):
    "Paths of pages by their paths, or by how their names begin; all lessons where there are none"
    lessons = sorted((ROOT/'nbs'/'lessons').glob('*.ipynb'))
    def find(name):
        if Path(name).is_file(): return [Path(name)]
        for some in (lessons, sorted((ROOT/'nbs').glob('*.ipynb'))):
            if found := [o for o in some if o.name.startswith(name)]: return found
        sys.exit(f'no page begins with {name}')
    return [o for k in names for o in find(k)] if names else lessons

def main(args=None):
    "The program"
    p = argparse.ArgumentParser(prog='tests/colab', description=__doc__.partition('\n')[0])
    p.add_argument('pages', nargs='*', help='paths, or beginnings of names; all lessons by default')
    p.add_argument('--out', type=Path, help='folder for tables and executed pages')
    p.add_argument('--shelf', type=Path, help='folder where the archives are kept for another call')
    p.add_argument('--no-kill', action='store_true', help='run each page once')
    p.add_argument('--full', action='store_true', help='do not make anything small: hours')
    p.add_argument('--on', action='store_true', help='go on after an error, as Colab does not')
    p.add_argument('--drive', default='granted', help="'granted', 'refused', or what mounting raises")
    a,done = p.parse_args(args),[]
    with tempfile.TemporaryDirectory(prefix='colab-', ignore_cleanup_errors=True) as d:
        with Machine(d, shelf=a.shelf, patients=PATIENTS, drive=a.drive) as m:
            for path in find_pages(a.pages):
                done.append(run_page(path, m, killing=not a.no_kill, full=a.full, on=a.on, log=lambda o: print(o, flush=True)))
                table,text = report(done)
                if a.out: keep(done, text, table, a.out, m)
            print('\n'+text)
            if m.hub.log: print('Weights were random, under the names of', ', '.join(sorted({o for o in m.hub.files})))
            if m.shop.asked_for: print('Phantoms were served as', ', '.join(sorted({k for _,k in m.shop.asked_for})))
            if m.pip: print('pip was asked:', *dict.fromkeys(m.pip), sep='\n  ')
    return 1 if any(o.faults for o in done) else 0
