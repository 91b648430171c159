"What may be removed or called finished: our own files only, and only what loads"
import os, shutil, time
from pathlib import Path
import pytest
from fundus_fastai import core
from fundus_fastai.core import DataError
from fundus_fastai.options import TrainOptions
from fundus_fastai.run import folder
from fundus_fastai.run.compare import check_comparison, _clear
from fundus_fastai.run.folder import check_run, clear_run, finished, run_files, start_run
from fundus_fastai.run.train import evaluate_run, explain_run, train_run

OLD = Path(__file__).parent/'old_run'

@pytest.fixture
def run(tmp_path):
    "A finished run, as an earlier version of the library left it"
    run = Path(shutil.copytree(OLD/'run', tmp_path/'run'))
    (run/'report.html').write_text('<footer>Made by fundus_fastai</footer>')
    return run

@pytest.fixture
def study(tmp_path):
    "A folder of somebody's own, with names that ours have, too"
    d = tmp_path/'study'
    (d/'checkpoints/epoch-1').mkdir(parents=True)
    for o in ('README.md','config.json','model.safetensors','checkpoints/best.safetensors','checkpoints/epoch-1/weights.pt','notes.txt'):
        (d/o).write_text(f'{{"mine": "{o}"}}')
    return d

def content(d): return {str(o.relative_to(d)): o.read_bytes() for o in sorted(d.rglob('*')) if o.is_file()}

# --- nobody else's files

@pytest.mark.parametrize('act', [lambda d: start_run(d, force=True), lambda d: clear_run(d), lambda d: start_run(d),
    lambda d: train_run('oct', opts=TrainOptions('test_efficientnet', weights='none'), out=d, force=True), lambda d: evaluate_run(OLD/'run', out=d, force=True)],
    ids=['start','clear','unforced','train','evaluate'])
def test_a_folder_of_somebody_else_stays_whole(study, act):
    before = content(study)
    (study/'model.safetensors').unlink() # for evaluate, which names that file itself
    before.pop('model.safetensors')
    with pytest.raises(DataError, match='README.md|not empty|unfinished'): act(study)
    assert content(study)==before

@pytest.mark.parametrize('name', run_files)
def test_one_strange_file_is_enough(run, name):
    if not folder.run_signs[name]: return # weights are told by what lies beside them
    (run/name).write_text('of my own')
    before = content(run)
    with pytest.raises(DataError, match=name): start_run(run, force=True)
    assert content(run)==before

def test_weights_alone_are_not_ours(tmp_path):
    (tmp_path/'model.safetensors').write_bytes(b'weights of another program')
    with pytest.raises(DataError, match='model.safetensors'): start_run(tmp_path, force=True)

def test_a_run_begins_again_and_leaves_the_rest(run):
    (run/'checkpoints/of_mine').mkdir(parents=True)
    for o in ('notes.txt','checkpoints/of_mine/a.pt','checkpoints/last.safetensors'): (run/o).touch()
    start_run(run, force=True)
    assert sorted(content(run))==['checkpoints/of_mine/a.pt','notes.txt']

def test_a_split_of_ones_own_is_no_run_to_resume(study):
    (study/'split.csv').write_text('path,patient,split\na.png,1,test\n')
    with pytest.raises(DataError, match='not written'): check_run(study, resume=True)

@pytest.mark.parametrize('name,text', [('maps.csv','a,b\n'), ('images.csv','path,mine\n')])
def test_tables_of_others_are_not_written_over(tmp_path, name, text):
    (tmp_path/'out').mkdir()
    (tmp_path/'out'/name).write_text(text)
    from fundus_fastai.run.benchmark import benchmark_run
    scans = sorted((OLD/'scans/CNV').glob('*.jpeg'))[:1]
    with pytest.raises(DataError, match=name):
        if name=='maps.csv': explain_run(OLD/'run', scans, out=tmp_path/'out', force=True)
        else: benchmark_run(OLD/'run', out=tmp_path/'out', force=True)
    assert (tmp_path/'out'/name).read_text()==text

def test_a_comparison_removes_runs_and_nothing_else(run, tmp_path):
    out = tmp_path/'compared'
    (out/'net-1').mkdir(parents=True)
    shutil.copytree(run, out/'net-2')
    (out/'net-1/thesis.txt').touch()
    shutil.copytree(run, tmp_path/'other-1')
    (out/'comparison.json').write_text('{"data_hash": ""}')
    _clear(out, dict(archs=['net','../other',str(tmp_path/'other')], seeds=[1,2]))
    assert sorted(map(str, content(out)))==['net-1/thesis.txt'] and (tmp_path/'other-1/config.json').exists()

def test_a_comparison_of_others(tmp_path):
    (tmp_path/'comparison.json').write_text('{"of": "prices"}')
    with pytest.raises(DataError, match='comparison.json'): check_comparison(tmp_path, force=True)

# --- finished

def test_finished_is_what_loads(run, capsys):
    assert finished(run)
    whole = (run/'model.safetensors').read_bytes()
    (run/'model.safetensors').write_bytes(whole[:-1]+bytes([whole[-1]^1]))
    assert not finished(run) and 'trained again' in capsys.readouterr().err
    (run/'model.safetensors').unlink()
    assert not finished(run)

@pytest.mark.parametrize('n', range(1, 12))
def test_killed_while_it_removes(run, n, monkeypatch):
    "After each unlink: never finished, and both --force and --resume know what lies there"
    (run/'checkpoints').mkdir()
    (run/'checkpoints/last.safetensors').touch()
    left,unlink = [n],Path.unlink
    def some(self, *args, **kw):
        if not left[0]: raise KeyboardInterrupt
        left[0] -= 1
        unlink(self, *args, **kw)
    monkeypatch.setattr(Path, 'unlink', some)
    with pytest.raises(KeyboardInterrupt): start_run(run, force=True)
    monkeypatch.undo()
    assert not finished(run)
    assert check_run(run, resume=True)==run and start_run(run, force=True)==run and not content(run)

def test_what_killed_programs_left_goes_and_what_is_being_written_stays(tmp_path):
    for name,age in {'.m-0a1b2c3d.json':2, '.m-0a1b2c3e.json':0, '.m-notes.json':2, '.n-0a1b2c3d.json':2}.items():
        (tmp_path/name).touch()
        os.utime(tmp_path/name, (time.time()-age*86_400,)*2)
    core.write_json(tmp_path/'m.json', {})
    assert {o.name for o in tmp_path.iterdir()}=={'m.json','.m-0a1b2c3e.json','.m-notes.json','.n-0a1b2c3d.json'}
    (tmp_path/'.eyes-0a1b2c3d/a').mkdir(parents=True)
    os.utime(tmp_path/'.eyes-0a1b2c3d', (0,0))
    with core.whole_dir(tmp_path/'eyes') as d: (d/'1.png').touch()
    assert not (tmp_path/'.eyes-0a1b2c3d').exists() and (tmp_path/'eyes/1.png').exists()

def test_bytes_are_on_the_disk_before_the_name(tmp_path, monkeypatch):
    order = []
    for k in ('fsync','replace'):
        monkeypatch.setattr(os, k, lambda *a, k=k, f=getattr(os, k): (order.append(k), f(*a))[1])
    core.write_json(tmp_path/'m.json', {})
    assert order==['fsync','replace']
