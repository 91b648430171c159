"The harness that runs pages as a Colab would: Secrets, Drive, Kaggle, pip, a kill in the middle, and the table"
import json, os, shutil, subprocess
import nbformat, pandas as pd, pytest
from nbformat.v4 import new_code_cell, new_notebook
from colab import harness
from colab.harness import checkpoints, final, keep, report, row, run_page, went_on
from colab.machine import TOKEN, Machine, Nets
from colab.small import small
from fundus_fastai import __version__

FIRST = """#| hide
! [ -e /content ] && pip install -Uqq git+https://github.com/x/y"""
DRIVE = """import os, json
from google.colab import drive, userdata
drive.mount('/content/drive')
print(userdata.get('KAGGLE_API_TOKEN'), os.getcwd())"""
FUNDUS = "!fundus --version"
NET = """#| net
from fundus_fastai.data.kaggle import download
root = download('aptos2019', '/content/aptos')
print(len(list(root.rglob('*.png'))), 'images at', root)"""
TRAIN = """import time
import numpy as np
from pathlib import Path
from safetensors import safe_open
from safetensors.numpy import save_file
run = Path('/content/drive/MyDrive/runs/a')
last = run/'checkpoints'/'last.safetensors'
last.parent.mkdir(parents=True, exist_ok=True)
rows = json.loads(safe_open(last, 'np').metadata()['fundus'])['rows'] if last.exists() and RESUME else []
print('goes on after', len(rows), 'epochs')
while len(rows)<3:
    rows.append(dict(epoch=len(rows), seconds=time.time()))
    save_file({'a':np.zeros(2)}, last.with_suffix('.new'), {'fundus':json.dumps(dict(rows=rows))})
    last.with_suffix('.new').rename(last)
    time.sleep(.8)
(run/'history.csv').write_text('epoch,seconds\\n'+'\\n'.join(f"{o['epoch']},{o['seconds']!r}" for o in rows))
print(len(rows), 'epochs')"""

@pytest.fixture(scope='module')
def machine(tmp_path_factory):
    with Machine(tmp_path_factory.mktemp('colab'), patients={'aptos2019':12}) as m: yield m

@pytest.fixture
def run(machine, tmp_path):
    "Run cells as a page"
    def go(*cells, name='toy', **kwargs):
        nbformat.write(new_notebook(cells=[new_code_cell(o) for o in cells]), tmp_path/f'{name}.ipynb')
        return run_page(tmp_path/f'{name}.ipynb', machine, **dict(log=lambda o: None) | kwargs)
    return go

def texts(page, n=-1): return [''.join(o.get('text', '') for o in c.outputs) for c in page.passes[n].nb.cells]

def test_a_page_is_killed_and_goes_on(run, machine, tmp_path):
    res = run(FIRST, DRIVE, FUNDUS, NET, 'RESUME = True', TRAIN)
    assert res.faults==[] and res.passes[0].killed.cell==5 and [c.state for c in final(res)]==['ran']*6
    said = texts(res)
    assert machine.pip[-1]=='install -Uqq git+https://github.com/x/y'
    assert f'{TOKEN} {machine.content}' in said[1] and 'Mounted at' in said[1]
    assert said[2].strip().endswith(__version__) and '12 images at' in said[3]
    assert final(res)[3].flags=='net' and machine.shop.asked_for[-1]==('DownloadDataFiles','aptos2019')
    n = len(res.kept['runs/a'])
    assert n in (1,2) and f'goes on after {n} epochs' in said[5] and res.notes[0]==f'killed in cell 5; {n} epochs on Drive were kept'
    assert res.notes[1]=='aptos2019 was downloaded 2 times in 2 runtimes' and res.notes[2].startswith('2 files on Drive at the end')
    table,text = report([res])
    assert row(res)['MB']>30 and dict(table.iloc[0])['last']=='3 epochs' and 'FAULT' not in text
    keep([res], text, table, tmp_path/'out', machine)
    assert len(pd.read_csv(tmp_path/'out'/'cells.csv'))==12 and str(machine.root) not in (tmp_path/'out'/'toy.ipynb').read_text()

def test_to_train_anew_is_a_fault(run, machine):
    res = run(DRIVE, 'RESUME = False', TRAIN)
    assert len(res.faults)==1 and 'runs/a had' in res.faults[0] and 'trained anew' in res.faults[0]
    assert list(went_on(machine, {'runs/none':[{}]}))==['runs/none was on Drive with 1 epochs and did not end']

def test_a_page_stops_at_an_error_and_what_did_not_run_is_told(run, monkeypatch):
    monkeypatch.setattr('colab.small.PAGES', {'toy':{'print(1)':'print(2)'}})
    res = run('print(1)', 'assert 0, "as it says"', 'open("nowhere")', '#| cuda\nprint(4)', killing=False)
    assert [c.state for c in final(res)]==['ran','claim','failed','not run'] and row(res)['not run']==1
    assert len(res.faults)==2 and 'cell 2 failed: FileNotFoundError' in res.faults[0] and res.faults[1]=='cell 3 not run: the page had stopped before'
    text = report([res])[1]
    assert [c.state for c in final(run('assert 0', 'print(1)', name='whole', killing=False))]==['failed','not run']
    assert 'FAULT: cell 2' in text and 'cell 1 claims what does not hold in the small form: AssertionError: as it says' in text

def test_what_a_colab_refuses(run, machine):
    "A Secret that is not there or not granted, a mount that is refused, an install that fails, and a program that sees no Secret"
    (machine.stub/'secrets.json').write_text(json.dumps({'HF_TOKEN':None}))
    (machine.stub/'drive.txt').write_text('refused')
    (machine.stub/'pip-fails.txt').write_text('ERROR: no such wheel')
    ask = 'from google.colab import drive, userdata\nfor f in (lambda: userdata.get("A"), lambda: userdata.get("HF_TOKEN"), lambda: drive.mount("/content/drive")):\n    try: f()\n    except Exception as e: print(type(e).__name__, e)'
    alone = '!python -c "from google.colab import userdata; userdata.get(\'HF_TOKEN\')"'
    res = run(ask, '!pip install such; echo $?', alone, "print(input('5 GB?'))", killing=False)
    said = texts(res)
    assert said[0].splitlines()==['SecretNotFoundError Secret A does not exist.', 'NotebookAccessError Notebook does not have access to secret HF_TOKEN', 'ValueError mount failed']
    assert said[1].split('\n')[0].strip()=='ERROR: no such wheel' and said[1].strip().endswith('1') and machine.pip[-1]=='install such'
    assert "has no attribute 'kernel'" in said[2] and said[3].splitlines()==['5 GB? yes', 'yes']
    for o in ('secrets.json','drive.txt','pip-fails.txt'): (machine.stub/o).unlink()
    Machine(machine.root, machine.shelf) # writes the usual answers

def test_the_first_cell_of_a_lesson_stops_where_it_cannot_install(run, machine):
    for page,what in (('07','fundus_fastai[explain] @ git+https:'), ('01','git+https:')):
        cells = nbformat.read(harness.find_pages([page])[0], as_version=4).cells
        first = next(o.source for o in cells if o.cell_type=='code' and 'pip install' in o.source)
        assert [c.state for c in final(run(first, 'print(1)', killing=False))]==['ran','ran'] and f'-Uq {what}' in machine.pip[-1]
    (machine.stub/'pip-fails.txt').write_text('ERROR: no network')
    try: res = run(first, 'print(1)', killing=False)
    finally: (machine.stub/'pip-fails.txt').unlink()
    assert [c.state for c in final(res)]==['failed','not run'] and 'SystemExit: fundus_fastai is not installed' in res.faults[0]
    assert 'no network' in (machine.content/'log').read_text()

def test_a_token_that_expires_in_the_middle(run, machine):
    "A sentence; with a new Secret the same cell, run again, goes on where it stopped"
    secrets = machine.stub/'secrets.json'
    fetch = """from fundus_fastai.core import DownloadError
from fundus_fastai.data.kaggle import download
try: print(len(list(download('aptos2019', '/content/a', pause=.01).rglob('*.png'))), 'images')
except DownloadError as e: print(e)"""
    anew = f"n = open({str(secrets)!r}, 'w').write('{{\"KAGGLE_API_TOKEN\": \"KGAT_new\"}}')"
    machine.shop.api,machine.shop.store = [None,401],[('drop',300_000)]
    machine.shop.tokens.add('KGAT_new')
    try: res = run(fetch, anew, fetch, killing=False)
    finally: secrets.write_text(json.dumps({'KAGGLE_API_TOKEN':TOKEN}))
    said = texts(res)
    assert "the credentials in Colab's Secrets were accepted before and are no more: they have expired" in said[0]
    assert '12 images' in said[2] and machine.shop.auth[-1]=='Bearer KGAT_new' and machine.shop.ranges[-1]>=200_000
    assert 'KGAT_' not in said[0]+said[2]

@pytest.fixture
def small_drive(machine):
    "A Drive of 40 MB, where we may make one"
    made = os.geteuid()==0 and shutil.which('mount') and not subprocess.run(['mount','-t','tmpfs','-o','size=40m','none',machine.drive], capture_output=True).returncode
    if not made: pytest.skip("needs the right to mount a tmpfs")
    try: yield machine.drive
    finally: subprocess.run(['umount', machine.drive], check=True)

def test_a_drive_that_fills_while_a_page_trains(run, machine, small_drive, monkeypatch):
    "A sentence, the last checkpoint is whole, and with room the same cell goes on after it"
    monkeypatch.setattr(machine, 'forget', lambda: None) # it is empty, and mounted
    begin = """import shutil
from fastai.vision.all import Callback
from fundus_fastai.all import *
runs = on_drive('page')
(runs/'a').mkdir(parents=True)
class Fill(Callback):
    order = 99
    def after_epoch(self): (runs/'ballast').write_bytes(bytes(shutil.disk_usage(runs).free-100_000))
def train(**kwargs):
    dls = eye_dls(open_data('phantom', patients=12), bs=16, workers=0, size=64)
    return eye_learner(dls, 'test_resnet', weights=None).fit_eye(one_cycle_plan(3, pretrained=False), out=runs/'a', **kwargs)
try: train(cbs=Fill())
except OSError as e: print(e.strerror)"""
    res = run(begin, "(runs/'ballast').unlink()\nprint(len(train(resume=True)), 'epochs')", killing=False)
    said = texts(res)
    assert res.faults==[], said
    assert 'no room is left there: make room and call again' in said[0]
    assert 'going on after epoch 1 of 3' in said[1] and said[1].strip().endswith('3 epochs')

@pytest.mark.parametrize('name', ['03_colab','34','36'])
def test_pages_about_missing_credentials_run_where_there_is_a_secret(machine, name):
    "They put the Secret of this Colab aside"
    res = run_page(harness.find_pages([name])[0], machine, killing=False, log=lambda o: None)
    assert res.faults==[] and {c.state for c in final(res)}=={'ran'}

def test_tables_of_the_repository(run):
    "What a page asks GitHub for is this repository's, by pandas too"
    web = 'https://raw.githubusercontent.com/fundus-fastai/fundus_fastai/main/tests/benchmarks/published.csv'
    page = run(f"import pandas as pd\nprint(len(pd.read_csv('{web}')))", f"pd.read_csv('{web[:-4]}_of_none.csv')", killing=False)
    assert texts(page)[0]==f"{len(pd.read_csv(harness.ROOT/'tests/benchmarks/published.csv'))}\n"
    assert [c.state for c in final(page)]==['ran','failed']

def test_pages_are_made_small(monkeypatch):
    "A lesson is quick, the GPU is believed in, and a text that a page no longer has is told"
    cells = "quick = 'IN_TEST' in os.environ # True: small\nreal = torch.cuda.is_available()", 'epochs=4'
    def page(): return new_notebook(cells=[new_code_cell(o) for o in cells])
    monkeypatch.setattr('colab.small.PAGES', {'a':{'epochs=4':'epochs=2'}, 'b':{'epochs=9':'epochs=2'}})
    nb = page()
    assert small('lesson', nb)==([], []) and [o.source for o in nb.cells]==['quick = True # True: small\nreal = True', 'epochs=4']
    nb = page()
    assert len(small('a', nb)[0])==1 and nb.cells[1].source=='epochs=2'
    assert small('b', page())==([], ["the page no longer says 'epochs=9': mend tests/colab/small.py"])

def test_nets_by_the_names_of_the_hub():
    "Random weights, the same each time"
    name,n = 'timm/test_resnet.r160_in1k/model.safetensors',Nets()
    assert name in n and 'timm/none/model.safetensors' not in n and n[name]==Nets()[name] and len(n[name])>1e6

def test_pages_are_found():
    assert [o.name[:2] for o in harness.find_pages(['01','34'])]==['01','34'] and len(harness.find_pages([]))>=9
    with pytest.raises(SystemExit, match='no page begins with'): harness.find_pages(['zz'])
