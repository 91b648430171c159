"What may be removed or called finished: our own files only, and only what loads"
import hashlib, json, os, re, shutil, subprocess, sys, time
from pathlib import Path
import pandas as pd, pytest, torch
from fundus_fastai import core
from fundus_fastai.core import DataError, read_json, write_json
from fundus_fastai.options import TrainOptions
from fundus_fastai.run import folder, report
from fundus_fastai.run.compare import check_comparison, _clear
from fundus_fastai.run.folder import check_run, clear_run, finished, run_files, split_note, start_run
from fundus_fastai.run.report import remake_report, rescore_run, share_run
from fundus_fastai.vision.learner import save_tensors
from fundus_fastai.vision.model import load_model, save_model
from fundus_fastai.run.train import evaluate_run, explain_run, predict_run, train_run

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

# --- what is said of the patients

def test_whether_patients_were_known_is_said():
    df = pd.DataFrame(dict(patient=['a','a','b']))
    assert split_note(df)=='No patient scored here was seen in training.'
    assert 'a patient of its own' in split_note(df[1:]) and 'the numbers flatter' in split_note(df[1:])
    assert 'may have been seen in training' in split_note(df, True)

def test_where_rows_come_from_is_told_without_folders(tmp_path):
    "By hand: of ten rows two contradict, three repeat others; a picture that cannot be read is counted by the report"
    df = pd.DataFrame(dict(path=list('abcde')))
    left = [(3,'x.png','contradict'), (4,'y.png','contradict')]
    (tmp_path/'ward.csv').write_text('path\n')
    def told(data, *more):
        df.attrs.update(read=dict(images=5), rows=10, left_out=[*left,*more])
        return folder.provenance(df, data)
    o = told(tmp_path)
    assert o['table']==tmp_path.name and (o['rows'],o['left_out'])==(10,{'contradict':2, 'repeat others, or do not answer':3}) and df.attrs['read']==dict(images=5)
    assert told(tmp_path/'ward.csv', (None,'z.png','is empty'))|dict(command=None)==dict(table='ward.csv', sha256=hashlib.sha256(b'path\n').hexdigest(), rows=10, left_out=o['left_out'], command=None)
    assert df.attrs['read']==dict(images=5, why='cannot be read') and told('odir5k')['table']=='odir5k'

def test_one_writes_at_a_time(tmp_path):
    with folder.only_writer(tmp_path/'out'):
        with pytest.raises(DataError, match='another program is writing into'):
            with folder.only_writer(tmp_path/'out', patience=.3): pass
    with folder.only_writer(tmp_path/'out', patience=0): pass
    assert not (tmp_path/'out').exists(), "nothing came of it"

def test_a_fault_of_ours_is_not_blamed_on_the_folder(run):
    @folder.watched
    def f(run): 1/0
    with pytest.raises(DataError, match='it has no SHA256SUMS'): f(run)
    folder.seal(run)
    with pytest.raises(ZeroDivisionError): f(run)
    (run/'split.csv').write_text('other')
    with pytest.raises(DataError, match='since split.csv changed'): f(run)

def test_a_net_of_phantoms_says_so_on_real_eyes(run, tmp_path):
    "And no evaluation is written over a net"
    for o in (OLD/'scans').rglob('*.jpeg'):
        (d := tmp_path/'ward'/o.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(o, d/f'{o.stem}_own.jpeg')
    evaluate_run(run, str(tmp_path/'ward'), allow_leak=True, maps=0, out=tmp_path/'out')
    m = read_json(tmp_path/'out/metrics.json')
    assert m['source']=='local' and 'The net has learned from phantoms only.' in m['note'] and folder.LEAKY in m['note']
    (tmp_path/'other').mkdir()
    (tmp_path/'other/model.safetensors').touch()
    with pytest.raises(DataError, match='holds a model: name another folder'): evaluate_run(run, str(tmp_path/'ward'), out=tmp_path/'other', force=True)
    with pytest.raises(DataError, match='is the run itself'): evaluate_run(run, str(tmp_path/'ward'), out=run, force=True)

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

def test_a_run_that_goes_on_loses_nothing(run):
    (run/'checkpoints').mkdir()
    (run/'checkpoints/last.safetensors').touch()
    before = content(run)
    assert start_run(run, resume=True)==run and content(run)==before
    (run/'split.csv').unlink() # nothing to go on with
    with pytest.raises(DataError, match='unfinished run: pass `resume=True`'): start_run(run, resume=True)

def test_a_folder_of_other_things_is_no_unfinished_run(tmp_path):
    (tmp_path/'notes.txt').touch()
    with pytest.raises(DataError) as e: start_run(tmp_path)
    assert 'unfinished' not in str(e.value) and 'not empty' in str(e.value)

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

@pytest.mark.parametrize('n', range(1, 13))
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
    for name in ('.m-0a1b2c3d.json','.m-0a1b2c3e.json','.m-notes.json','.n-0a1b2c3d.json'): (tmp_path/name).touch()
    alive = core.own(tmp_path/'.m-0a1b2c3e.json') # as its writer does
    core.write_json(tmp_path/'m.json', {})
    os.close(alive)
    assert {o.name for o in tmp_path.iterdir()}=={'m.json','.m-0a1b2c3e.json','.m-notes.json','.n-0a1b2c3d.json'}
    (tmp_path/'.eyes-0a1b2c3d/a').mkdir(parents=True)
    with core.whole_dir(tmp_path/'eyes') as d: (d/'1.png').touch()
    assert not (tmp_path/'.eyes-0a1b2c3d').exists() and (tmp_path/'eyes/1.png').exists()

WRITER = "import sys, time; from fundus_fastai.core import whole_{kind}\nwith whole_{kind}({path!r}) as f: print(f, flush=True); time.sleep(60)"

@pytest.mark.parametrize('kind', ['file','dir'])
def test_a_writer_is_swept_when_it_is_dead_and_not_before(tmp_path, kind):
    p = subprocess.Popen([sys.executable,'-c',WRITER.format(kind=kind, path=str(tmp_path/'a.txt'))], stdout=subprocess.PIPE, text=True)
    temp = Path(p.stdout.readline().strip())
    core.sweep(tmp_path/'a.txt')
    assert temp.exists()
    p.kill(); p.wait()
    core.sweep.cache_clear()
    core.sweep(tmp_path/'a.txt')
    assert not temp.exists()

def test_a_writer_may_finish_while_we_sweep(tmp_path, monkeypatch):
    "Listed, and gone to its place before it is looked at"
    (tmp_path/'.m-0a1b2c3d.json').touch()
    monkeypatch.setattr(core, 'own', lambda o, **kw: os.replace(o, tmp_path/'m.json'))
    core.sweep(tmp_path/'m.json')
    assert {o.name for o in tmp_path.iterdir()}=={'m.json'}

def test_where_nothing_can_be_locked_age_tells(tmp_path, monkeypatch):
    monkeypatch.setattr(core, 'own', lambda *args, **kw: None)
    for name,age in {'.m-0a1b2c3d.json':2, '.m-0a1b2c3e.json':0}.items():
        (tmp_path/name).touch()
        os.utime(tmp_path/name, (time.time()-age*86_400,)*2)
    core.write_json(tmp_path/'m.json', {})
    assert {o.name for o in tmp_path.iterdir()}=={'m.json','.m-0a1b2c3e.json'}

def test_a_folder_in_which_a_kill_left_half_a_file_is_as_empty(tmp_path):
    (tmp_path/'.split-0a1b2c3d.csv').touch()
    for check in (check_run, check_comparison): assert check(tmp_path)==check(tmp_path, resume=True)==tmp_path
    (tmp_path/'.split-notes.csv').touch()
    with pytest.raises(DataError): check_run(tmp_path)

def test_weights_leave_no_file_of_their_library(tmp_path, monkeypatch):
    "The library writes to a hidden name of its own, which nobody would sweep: so it gives us the bytes"
    seen,write = [],Path.write_bytes
    monkeypatch.setattr(Path, 'write_bytes', lambda self, b: (seen.append(sorted(o.name for o in self.parent.iterdir())), write(self, b))[1])
    save_model(load_model(OLD/'run', 'cpu'), tmp_path, 'oct')
    save_tensors(tmp_path/'last.safetensors', dict(a=torch.zeros(3)), {})
    assert len(seen)==2 and all(re.fullmatch(r'\.(model|last)-[a-z0-9_]{8}\.safetensors', o[0]) for o in seen)

def test_checkpoints_of_a_finished_run_go(run):
    "A kill came between the last page and their removal"
    (run/'checkpoints').mkdir()
    for o in ('last','best'): (run/f'checkpoints/{o}.safetensors').touch()
    train_run('oct', opts=TrainOptions('test_efficientnet', weights='none'), out=run, resume=True)
    assert not (run/'checkpoints').exists() and finished(run)

def test_bytes_are_on_the_disk_before_the_name(tmp_path, monkeypatch):
    order = []
    for k in ('fsync','replace'):
        monkeypatch.setattr(os, k, lambda *a, k=k, f=getattr(os, k): (order.append(k), f(*a))[1])
    core.write_json(tmp_path/'m.json', {})
    assert order==['fsync','replace']

# --- still what was written

def said_of(run, capsys, act=rescore_run):
    capsys.readouterr()
    try: act(run)
    except DataError as e: return f'{capsys.readouterr().err} {e}'
    return capsys.readouterr().err

@pytest.fixture
def sealed_run(run):
    folder.seal(run)
    return run

def test_what_any_tool_can_compare(sealed_run):
    sums = dict(reversed(o.split('  ')) for o in (sealed_run/'SHA256SUMS').read_text().splitlines())
    assert {*sums}=={o for o in folder.sealed if (sealed_run/o).exists()} and len(sums)>5
    assert all(hashlib.sha256((sealed_run/k).read_bytes()).hexdigest()==v for k,v in sums.items())

@pytest.mark.parametrize('name', folder.sealed)
def test_a_change_is_told_each_time(sealed_run, capsys, name):
    if not (sealed_run/name).exists(): return
    assert 'SHA256SUMS' not in said_of(sealed_run, capsys)
    b = bytearray((sealed_run/name).read_bytes())
    at = [i for i,o in enumerate(b) if chr(o).isdigit()][-1]
    b[at] = ord('1') if b[at]!=ord('1') else ord('2')
    (sealed_run/name).write_bytes(b)
    for _ in range(2): assert f'{name} changed, or went' in said_of(sealed_run, capsys)
    (sealed_run/name).unlink()
    assert f'{name} changed, or went' in said_of(sealed_run, capsys)

def test_a_report_leaves_the_seal_whole(sealed_run, capsys):
    "What it makes anew is sealed anew, but where something else has changed"
    for _ in range(2): assert 'SHA256SUMS' not in said_of(sealed_run, capsys, remake_report)
    seal = (sealed_run/'SHA256SUMS').read_text()
    p = (sealed_run/'predictions.csv').read_text().splitlines(True)
    (sealed_run/'predictions.csv').write_text(''.join(p[:-1]))
    for said in ('predictions.csv changed','metrics.json, predictions.csv changed'):
        assert said in said_of(sealed_run, capsys, remake_report) and (sealed_run/'SHA256SUMS').read_text()==seal

def test_a_change_is_named_where_the_answer_fails(sealed_run, capsys):
    kept = json.loads((sealed_run/'report.json').read_text())
    kept['splits'] = {'rows':[1]}
    (sealed_run/'report.json').write_text(json.dumps(kept))
    assert 'cannot be used, since report.json changed' in said_of(sealed_run, capsys, remake_report)

@pytest.mark.parametrize('act', [lambda d: evaluate_run(d, OLD/'scans', maps=0, allow_leak=True), lambda d: predict_run(d, [OLD/'scans']),
    lambda d: explain_run(d, [next((OLD/'scans'/'CNV').glob('*.jpeg'))], out=d/'m'), lambda d: share_run(d, d.parent/'shared')],
    ids=['evaluate','predict','explain','share'])
def test_whoever_reads_a_run_tells(sealed_run, capsys, act):
    with open(sealed_run/'history.csv', 'a') as f: f.write('\n')
    assert 'history.csv changed' in said_of(sealed_run, capsys, act)

def test_nothing_is_asked_of_an_older_run(run, capsys):
    with open(run/'history.csv', 'a') as f: f.write('\n')
    assert 'changed' not in said_of(run, capsys) and not (run/'SHA256SUMS').exists()

@pytest.mark.parametrize('text,says', [(None,'has no split.csv'), (b'path,patient\na,"', 'no column split|not a readable CSV'),
                                       (b'\xff\xfe\0', 'not a readable CSV'), (b'', 'not a readable CSV')])
def test_a_spoiled_split_is_named(run, text, says):
    if text is None: (run/'split.csv').unlink()
    else: (run/'split.csv').write_bytes(text)
    with pytest.raises(DataError, match=says): evaluate_run(run, OLD/'scans', maps=0)

def test_spoiled_scores_are_named_by_predict(run):
    (run/'metrics.json').write_text('[1]')
    with pytest.raises(DataError, match='holds no scores'): predict_run(run, [OLD/'scans'])

def test_attacked_runs(sealed_run, monkeypatch):
    "A sample of `tests/attack/models.py`"
    from attack.models import attack, coarse
    monkeypatch.setattr(report, 'png_bytes', coarse)
    found,faults = attack(sealed_run, OLD/'scans', 12, 5, allow_leak=True)
    assert not faults and sum(found.values())>12

def test_where_nothing_is_sealed_a_hand_edited_file_is_a_sentence(tmp_path):
    "As in folders of earlier versions, and those that were made for others"
    run = shutil.copytree(OLD/'run', tmp_path/'run')
    kept = read_json(run/'report.json')
    for odd in (kept|dict(splits=3), kept|dict(config=dict(shortcuts=[3]))):
        write_json(run/'report.json', odd)
        with pytest.raises(DataError, match='has no SHA256SUMS.*copy the folder again'): remake_report(run)

def test_what_was_stopped_before_its_first_epoch_can_be_gone_on_with(tmp_path):
    "A split and no checkpoint: the sentence had named --force alone"
    run = tmp_path/'run'
    run.mkdir()
    (run/'split.csv').write_text('path,patient,eye,label,split\n')
    with pytest.raises(DataError, match='unfinished run: pass `resume=True`'): start_run(run)
    assert start_run(run, resume=True)==run
    (run/'predictions.csv').write_text('path,patient\n')
    with pytest.raises(DataError, match='not empty'): start_run(run)
