"From a run to a file: every kind of net and of answer, checked, shrunk, refused, and asked where there is no torch"
import errno, io, json, re, shutil, subprocess, sys
from functools import cache
from types import SimpleNamespace
from packaging.version import Version
from pathlib import Path
import numpy as np, onnx, pandas as pd, pytest, torch
from fundus_fastai.cli import main
from fundus_fastai.core import DataError, ModelError
from fundus_fastai.options import TrainOptions
from fundus_fastai.run.folder import clear_run
from fundus_fastai.score.compare import Difference
from fundus_fastai.run.train import predict_run
from fundus_fastai.ship import export as E
from fundus_fastai.ship.export import export_run
from fundus_fastai.ship.onnx import OnnxNet, predict_onnx, read_onnx
from fundus_fastai.vision.model import load_model, save_model
from fundus_fastai.vision.steps import make_learner
from nets import labeled

HERE = Path(__file__).parent.parent/'run/old_run'
SCANS = sorted(HERE.glob('scans/**/*.jpeg'))

@pytest.fixture(scope='module')
def run(tmp_path_factory):
    "A run of the tests, with a temperature"
    d = tmp_path_factory.mktemp('run')/'run'
    shutil.copytree(HERE/'run', d)
    m = json.loads((d/'metrics.json').read_text())
    m['calibration']['temperature'] |= dict(value=2., low=1., high=3.)
    (d/'metrics.json').write_text(json.dumps(m))
    return d

@pytest.fixture(scope='module')
def whole(run, tmp_path_factory):
    "Its file, by the first exporter"
    f = tmp_path_factory.mktemp('onnx')/'m.onnx'
    return f,export_run(run, f)

@pytest.fixture(scope='module', autouse=True)
def drawn_once():
    with pytest.MonkeyPatch.context() as m:
        m.setattr(E, 'drawn_eyes', cache(E.drawn_eyes))
        yield

@pytest.fixture
def old_exporter(monkeypatch):
    "The fast one alone"
    monkeypatch.setattr(E, 'exporters', dict(torchscript=E.by_torchscript))

def numbers(t): return t.filter(regex='^(p_|pred$|pred_)').to_numpy(float)

# --- one file

def test_the_first_exporter_and_the_same_table(run, whole):
    f,said = whole
    old = Version(torch.__version__)<Version('2.14') # 2.10 writes no adaptive_max_pool2d by the first: the second follows
    assert ('dynamo' in said or old and 'torchscript' in said) and '64 drawn pictures' in said and '\n' not in said
    a,b = predict_run(run, SCANS),predict_onnx(f, SCANS)
    text = [c for c in a if not c.startswith('p_')]
    assert list(a)==list(b) and a[text].equals(b[text]) and np.abs(numbers(a)-numbers(b)).max()<1e-4

def test_what_the_file_says(run, whole):
    notes,cfg = read_onnx(whole[0])[1],json.loads((run/'config.json').read_text())
    assert notes['sha256']==cfg['sha256'] and notes['classes']==cfg['classes'] and notes['size']==cfg['size'] and notes['temperature']==2
    assert notes['kind']=='category' and notes['source']=='phantom' and 'not a medical device' in notes['terms'].lower() and notes['points']

def test_calibrated_is_at_the_temperature(whole):
    net,x = OnnxNet(whole[0]),np.random.default_rng(0).integers(0, 255, (5,32,32,3), dtype=np.uint8)
    p,q = net.ask(x),net.ask(x, 'calibrated')
    want = np.sqrt(p)/np.sqrt(p).sum(1, keepdims=True)
    assert np.abs(q-want).max()<1e-5 and np.abs(q-p).max()>1e-4

def test_no_place_of_this_machine_is_in_it(whole):
    raw = whole[0].read_bytes()
    assert not any(o.encode() in raw for o in (str(Path(__file__).parents[2]), 'site-packages', 'fastai/layers', '.py"'))
    assert len(onnx.load(whole[0]).graph.output)==2

NO_TORCH = '''import sys
class Gone:
    def find_spec(self, name, *args):
        if name.split('.')[0] in ('torch','fastai','timm','torchvision'): raise ImportError(f'{name} was asked for')
sys.meta_path.insert(0, Gone())
from fundus_fastai.cli import main
assert main(['predict', *sys.argv[1:]])==0
assert 'torch' not in sys.modules'''

def test_without_torch(run, whole, tmp_path, capsys):
    "`fundus predict model.onnx` where there is none, against `fundus predict RUN`"
    files = [str(o) for o in SCANS[:5]]
    res = subprocess.run([sys.executable, '-c', NO_TORCH, whole[0], *files], capture_output=True, text=True)
    assert res.returncode==0, res.stderr[-2000:]
    assert main(['predict', run, *files])==0
    a,b = pd.read_csv(io.StringIO(capsys.readouterr().out), dtype=dict(model=str)),pd.read_csv(io.StringIO(res.stdout), dtype=dict(model=str))
    text = [c for c in a if not c.startswith('p_')]
    assert list(a)==list(b) and a[text].equals(b[text]) and np.abs(numbers(a)-numbers(b)).max()<1e-4
    assert 'PHANTOM' in res.stderr and 'research use only' in res.stderr

# --- the zoo

def saved(tmp_path, task='oct', arch='test_resnet', size=64, fit='tune'):
    "A run folder of an untrained net, whose scores are not all alike"
    torch.manual_seed(3)
    hears = dict(fit='readout', readout='places') if fit=='places' else dict(fit=fit)
    learn = make_learner(labeled(task), task, TrainOptions(arch, weights='none', size=size, bs=4, workers=0, **hears))
    return save_model(learn, tmp_path/'run', task, source='phantom', data='kermany2018')

def agrees(run):
    "The largest difference of file and net on drawn eyes, after an export that said it has looked"
    said = export_run(run)
    assert 'differ from the net' in said
    learn,net = load_model(run, 'cpu'),OnnxNet(run/'model.onnx')
    eyes = E.drawn_eyes(net.config['image'])[:5]
    a,b = learn.predict_frame(eyes),net.predict_frame(eyes)
    assert list(a)==list(b)
    return np.abs(numbers(a)-numbers(b)).max()

ZOO = [('test_resnet',64,'tune'), ('test_efficientnet',64,'tune'), ('squeezenet1_1',64,'tune'), ('test_convnext',64,'tune'), ('test_vit',160,'tune'),
       ('test_vit',160,'readout'), ('test_resnet',64,'readout'),
       ('test_resnet',160,'places')] # 4 x 4 of 5 x 5

@pytest.mark.parametrize('arch,size,fit', ZOO)
def test_every_family(tmp_path, old_exporter, arch, size, fit): assert agrees(saved(tmp_path, 'oct', arch, size, fit))<1e-4

@pytest.mark.parametrize('task', ['anomaly','diseases','age','dr','dr_ordered','sex_age'])
def test_every_answer(tmp_path, old_exporter, task):
    assert agrees(saved(tmp_path, task))<5e-4
    assert read_onnx(tmp_path/'run/model.onnx')[1]['kind']==dict(anomaly='category', diseases='multilabel', age='number', dr='grades',
                                                               dr_ordered='ordered', sex_age='both')[task]

LARGE = ['resnet50','inception_v3','efficientnet_lite0','squeezenet1_1','convnext_atto','vit_tiny_patch16_224']

@pytest.mark.slow
@pytest.mark.parametrize('arch', LARGE)
def test_whole_nets(tmp_path, arch):
    run = saved(tmp_path, 'anomaly', arch, dict(inception_v3=299).get(arch, 224))
    assert agrees(run)<1e-4

# --- what goes wrong

def test_the_older_exporter_has_its_turn(tmp_path, monkeypatch):
    def broken(*args, **kw): raise RuntimeError('no such operator')
    monkeypatch.setattr(E, 'exporters', dict(dynamo=broken, torchscript=E.by_torchscript))
    assert 'by the torchscript exporter' in export_run(saved(tmp_path))

def test_so_it_has_where_the_first_one_lies(tmp_path, monkeypatch):
    "A file that answers otherwise is not kept"
    def lies(net, x, to, *, outputs):
        net.mean += .3
        try: E.by_torchscript(net, x, to, outputs=outputs)
        finally: net.mean -= .3
    monkeypatch.setattr(E, 'exporters', dict(dynamo=lies, torchscript=E.by_torchscript))
    run = saved(tmp_path)
    assert 'by the torchscript exporter' in export_run(run)
    monkeypatch.setattr(E, 'exporters', dict(dynamo=lies))
    before = (run/'model.onnx').read_bytes()
    with pytest.raises(ModelError, match='no file is kept.*differ from the net'): export_run(run, force=True)
    with pytest.raises(ModelError): export_run(run, tmp_path/'new.onnx')
    assert (run/'model.onnx').read_bytes()==before and [o.name for o in tmp_path.iterdir()]==['run']

def test_answers_that_are_none_are_no_answers(tmp_path, monkeypatch, old_exporter):
    monkeypatch.setattr(E, 'largest_difference', lambda *args: float('nan'))
    with pytest.raises(ModelError, match='no file is kept'): export_run(saved(tmp_path))

def test_a_full_disk_is_not_the_net_s_fault(tmp_path, monkeypatch, capsys):
    def full(*args, **kw): raise OSError(errno.ENOSPC, 'No space left on device', str(tmp_path/'x.onnx'))
    monkeypatch.setattr(E, 'exporters', dict(torchscript=full))
    run = saved(tmp_path)
    assert main(['export', run, '--to', tmp_path/'x.onnx'])==1
    assert 'no space left on the device' in capsys.readouterr().err and not (tmp_path/'x.onnx').exists()

def test_options_that_do_not_go_together(run, tmp_path):
    for kw,says in ((dict(int8=True), 'images=DIR'), (dict(fp16=True, int8=True), 'pass one of them')):
        with pytest.raises(DataError, match=says): export_run(run, tmp_path/'x.onnx', **kw)
    with pytest.raises(DataError, match='end in .onnx'): export_run(run, tmp_path/'x.pt')
    (tmp_path/'x.onnx').write_text('mine')
    with pytest.raises(DataError, match='force=True'): export_run(run, tmp_path/'x.onnx')
    assert (tmp_path/'x.onnx').read_text()=='mine'
    with pytest.raises(DataError, match='pictures of the run are not in'): export_run(run, tmp_path/'y.onnx', images=tmp_path)

def test_a_published_net_has_no_pictures_of_its_own(run, tmp_path):
    shutil.copytree(run, tmp_path/'run')
    for o in ('split.csv','SHA256SUMS'): (tmp_path/'run'/o).unlink(missing_ok=True)
    with pytest.raises(DataError, match='no split.csv, as no published net has'): export_run(tmp_path/'run', tmp_path/'y.onnx', images=HERE/'scans')

def test_pictures_of_a_run_are_found(tmp_path):
    "Frames of volumes, and paths that begin with the folder that is named"
    rows = pd.DataFrame(dict(path=['scans/a.dcm#1','scans/a.dcm#2']))
    (tmp_path/'scans').mkdir()
    (tmp_path/'scans/a.dcm').write_bytes(b'x')
    for root in (tmp_path, tmp_path/'scans'):
        asked = []
        assert len(E.side_eyes(SimpleNamespace(open_eyes=lambda o: asked.extend(o) or []), rows, root)[0])==2
        assert [str(o) for o in asked]==[str(tmp_path/o) for o in rows.path]

def test_a_net_that_is_trained_anew_leaves_no_old_file(run, whole, tmp_path):
    "A file in the run would answer for a net that is gone"
    shutil.copytree(run, tmp_path/'run')
    shutil.copy(whole[0], tmp_path/'run/model.onnx')
    clear_run(tmp_path/'run')
    assert not (tmp_path/'run/model.onnx').exists()

def test_the_command(run, tmp_path, old_exporter, capsys):
    assert main(['export', run, '--to', tmp_path/'x.onnx'])==0 and 'x.onnx: ' in capsys.readouterr().out
    assert main(['export', run, '--to', tmp_path/'x.onnx'])==1 and '--force' in capsys.readouterr().err
    assert main(['export', run, '--to', tmp_path/'y.onnx', '--int8'])==1 and '--images DIR' in capsys.readouterr().err

def test_a_temperature_at_its_bound_is_none(tmp_path, old_exporter):
    "As it stands in the old run"
    export_run(HERE/'run', tmp_path/'x.onnx')
    assert read_onnx(tmp_path/'x.onnx')[1]['temperature'] is None and len(onnx.load(tmp_path/'x.onnx').graph.output)==1

# --- smaller

def test_half_the_bits(run, whole, tmp_path, old_exporter):
    said = export_run(run, tmp_path/'x.onnx', fp16=True)
    assert 'pictures differ' in said and (tmp_path/'x.onnx').stat().st_size<.7*whole[0].stat().st_size
    a,b = predict_onnx(whole[0], SCANS[:5]),predict_onnx(tmp_path/'x.onnx', SCANS[:5])
    assert 0<np.abs(numbers(a)-numbers(b)).max()<.01 and set(b.model)=={f'{a.model[0]}-fp16'}

def test_a_quarter_of_the_bits(run, whole, tmp_path, old_exporter, monkeypatch):
    "Kept where it costs .0099, refused where it costs .0101"
    lost = E.skill_lost
    def at(value): monkeypatch.setattr(E, 'skill_lost', lambda *args, **kw: (lambda k,d: (k, d._replace(value=value)))(*lost(*args, **kw)))
    at(.0099)
    said = export_run(run, f := tmp_path/'x.onnx', int8=True, images=HERE/'scans')
    assert 'auc on' in said and 'validation images falls by' in said
    ops = {o.op_type for o in onnx.load(f).graph.node}
    assert 'QuantizeLinear' in ops and f.stat().st_size<.6*whole[0].stat().st_size
    assert set(predict_onnx(f, SCANS[:2]).model)=={f"{read_onnx(f)[1]['sha256'][:16]}-int8"}
    at(.0101)
    with pytest.raises(ModelError, match='8 bits cost too much.*fp16'): export_run(run, tmp_path/'y.onnx', int8=True, images=HERE/'scans')
    assert not (tmp_path/'y.onnx').exists()

@pytest.mark.parametrize('d,says', [((.001,np.nan,np.nan,np.nan,'no interval: too few patients of a class'), 'falls by 0.0010 .no interval: too few patients of a class.$'),
                                    ((.001,-.002,.004,.5,'paired patient bootstrap'), r'falls by 0.0010 \(-0.0020 to 0.0040\)$')])
def test_an_interval_that_does_not_exist_says_why(run, tmp_path, old_exporter, monkeypatch, d, says):
    monkeypatch.setattr(E, 'skill_lost', lambda *args, **kw: ('auc',Difference(*d)))
    assert re.search(says, export_run(run, tmp_path/'x.onnx', int8=True, images=HERE/'scans'))

def test_a_loss_that_nobody_can_tell_is_none_that_is_allowed(run, tmp_path, old_exporter, monkeypatch):
    monkeypatch.setattr(E, 'skill_lost', lambda *args, **kw: ('auc',Difference(*[np.nan]*4, 'undefined')))
    with pytest.raises(ModelError, match='nothing tells what 8 bits cost: auc on .* validation images is undefined') as e:
        export_run(run, tmp_path/'x.onnx', int8=True, images=HERE/'scans')
    assert 'nan' not in str(e.value) and not (tmp_path/'x.onnx').exists()

def test_skill_that_is_lost():
    "Worse answers lose, equal ones do not, whatever the measure"
    from fundus_fastai.score.kinds import CATEGORY, MULTILABEL, NUMBER
    from made import binary, labels_table, numbers_table
    for kind,t,cols in ((CATEGORY,binary(),['p_no','p_yes']), (MULTILABEL,labels_table(),None), (NUMBER,numbers_table(),['pred'])):
        cols = cols or [c for c in t if c.startswith('p_')]
        worse = t[cols].sample(frac=1, random_state=0).reset_index(drop=True)
        key,d = E.skill_lost(kind, t, (t[cols],worse))
        assert d.value>.05 and d.low<=d.value<=d.high and key in ('auc','mae')
        assert E.skill_lost(kind, t, (t[cols],t[cols]))[1].value==0
