"A run from the hub: pinned, whole, checked, or a sentence and nothing"
import hashlib, shutil
from pathlib import Path
import pytest
from fundus_fastai import hub as H
from fundus_fastai.cli import main
from fundus_fastai.core import DataError, DownloadError, ModelError
from fundus_fastai.hub import HubRef, fetch_run, hub_folder, local_run, read_ref
import stub_models
from stub_models import ModelHub

HERE = Path(__file__).parent.parent/'run/old_run'
SCANS = sorted(HERE.glob('scans/**/*.jpeg'))[:2]

@pytest.fixture(scope='module')
def pack(tmp_path_factory):
    "What fundus publish would have sent"
    from fundus_fastai.ship.hub import pack_run
    d = tmp_path_factory.mktemp('pack')/'p'
    pack_run(HERE/'run', d, onnx=False)
    return {o.name:o.read_bytes() for o in d.iterdir()}

@pytest.fixture
def hub(tmp_path, monkeypatch):
    monkeypatch.setenv('FUNDUS_HOME', str(tmp_path/'home'))
    monkeypatch.setattr('huggingface_hub.utils._http.time.sleep', lambda s: None)
    with ModelHub() as h, h.as_endpoint(): yield h

@pytest.fixture
def ref(hub, pack): return HubRef('eyes/oct', hub.add('eyes/oct', pack))

def left(): return [o for o in (H.fundus_home()/'hub').rglob('*') if o.is_file()]

def test_fetched_once(hub, ref, pack, capsys):
    d = local_run(str(ref))
    assert 'today' not in capsys.readouterr().err # a commit is the same tomorrow
    assert {o.name:o.read_bytes() for o in d.iterdir()}==pack and d==hub_folder(ref)
    hub.sent.clear()
    assert local_run(str(ref))==d and hub.sent==[] # and where there is no network

def test_commands_take_its_name(hub, ref, tmp_path, capsys):
    "The same answers as of the run at home; no map is laid into what is kept"
    from fundus_fastai.vision.model import load_model
    assert main(['predict', ref, *SCANS])==0
    there = capsys.readouterr().out
    assert main(['predict', HERE/'run', *SCANS])==0 and capsys.readouterr().out==there
    assert load_model(str(ref), 'cpu').config['arch']=='test_efficientnet'
    assert main(['explain', ref, *SCANS])==1 and '--out DIR' in capsys.readouterr().err
    assert main(['explain', ref, SCANS[0], '--out', tmp_path/'maps'])==0 and (tmp_path/'maps/maps.csv').exists()
    assert main(['export', ref])==1 and '--to DIR' in capsys.readouterr().err
    assert main(['evaluate', ref, '--data', HERE/'scans', '--out', tmp_path/'e', '--maps', '0'])==1
    assert 'nothing tells whom it has seen' in (err := capsys.readouterr().err) and '--allow-leak' in err
    assert {o.name for o in hub_folder(ref).iterdir()}=={'README.md','TERMS.md','config.json','metrics.json','model.safetensors','SHA256SUMS'}

def test_a_branch_is_told_by_its_commit(hub, ref, capsys):
    for name in ('hf://eyes/oct', 'hf://eyes/oct@main'):
        assert local_run(name)==hub_folder(ref)
        assert f'{name} is {ref} today' in capsys.readouterr().err
    new = hub.add('eyes/oct', hub.at('eyes/oct', 'main')[1])
    assert local_run('hf://eyes/oct@main')==hub_folder(ref._replace(revision=new))

def test_a_part_of_a_pair(hub, pack):
    sha = hub.add('eyes/pair', {f'{o}/{k}':b for o in ('light','most_accurate') for k,b in pack.items()}|{'README.md':b'x'})
    d = local_run(f'hf://eyes/pair@{sha}/light')
    assert {o.name:o.read_bytes() for o in d.iterdir()}==pack
    for part in ('','/dark'):
        with pytest.raises(ModelError, match=f'is no net, but holds some: ask for hf://eyes/pair@{sha}/light or hf://eyes/pair@{sha}/most_accurate$'):
            local_run(f'hf://eyes/pair@{sha}{part}')

@pytest.mark.parametrize('kind,deed,says', [
    ('info',401,'no such model|does not know'), ('info',403,'does not let you'), ('info',404,'no such model'), ('info',500,r'an error \(500\)'), ('info','drop','cannot be reached'),
    ('resolve model.safetensors',403,'does not let you'), ('resolve model.safetensors',404,'.'), ('resolve model.safetensors','drop','.'),
    ('resolve model.safetensors','lie','another digest'), ('resolve config.json','lie','another digest'), ('resolve SHA256SUMS','lie','another digest')])
def test_trouble(hub, ref, kind, deed, says):
    "A sentence, nothing is kept, and the next call is as good as the first"
    hub.deeds[kind] = deed
    with pytest.raises(DownloadError, match=says) as e: local_run(str(ref))
    assert 'eyes/oct' in str(e.value) and '\n' not in str(e.value) and left()==[]
    hub.deeds.clear()
    assert local_run(str(ref)).is_dir()

@pytest.mark.parametrize('told,says', [(b'<html>Please sign in</html>','a login page or a proxy may stand between'), (b'{"id":"eyes/oct","sha":"'+b'0'*40+b'"}','lacks config.json'),
                                       (b'{"id":"eyes/oct","siblings":[{"rfilename":"config.json"},{"rfilename":"model.safetensors"},{"rfilename":"SHA256SUMS"}]}','does not say which commit')])
def test_what_is_no_answer_of_a_hub(hub, ref, told, says, monkeypatch):
    "A clinic's login page, an answer without files (which was a TypeError), one without a commit (another)"
    monkeypatch.setattr(stub_models.Handler, 'info', lambda self, hub, raw, name, rev=None: self._send(200, told, Content_Type='text/html'))
    with pytest.raises((DownloadError,ModelError), match=says): local_run(f'hf://{ref.repo}')
    assert left()==[]

def test_what_is_not_there(hub, ref):
    "As the hub tells it, by a word of its own"
    with pytest.raises(DownloadError, match='eyes/none: .* has no such model, or none that you may see'): local_run('hf://eyes/none')
    with pytest.raises(DownloadError, match='eyes/oct: .* has the model, but not that revision'): local_run('hf://eyes/oct@old')

def test_a_name_that_the_hub_does_not_take(hub):
    "Was told to be asked again"
    with pytest.raises(DownloadError, match="takes no such name .*'eyes/oct.git'.: write another"): local_run('hf://eyes/oct.git')

def test_other_weights_than_the_config_was_written_for(hub, pack):
    "All digests agree with each other, but the config's with its weights"
    from fundus_fastai.vision.model import load_model
    new = dict(pack, **{'model.safetensors':pack['model.safetensors'][:-1]+b'?'})
    new['SHA256SUMS'] = ''.join(f'{hashlib.sha256(b).hexdigest()}  {k}\n' for k,b in new.items() if k!='SHA256SUMS').encode()
    sha = hub.add('eyes/oct', new)
    with pytest.raises(ModelError, match='its sha256 differs'): load_model(f'hf://eyes/oct@{sha}', 'cpu')

def test_never_a_pickle(hub, pack):
    sha = hub.add('eyes/bad', {'config.json':pack['config.json'], 'SHA256SUMS':pack['SHA256SUMS'], 'pytorch_model.bin':b'\x80\x04', 'export.pkl':b'\x80\x04'})
    with pytest.raises(ModelError, match='lacks model.safetensors.*pytorch_model.bin, export.pkl could run code'): local_run(f'hf://eyes/bad@{sha}')
    assert not any('resolve' in o[1] for o in hub.sent) and left()==[]
    sha = hub.add('eyes/more', dict(pack, **{'pytorch_model.bin':b'\x80\x04', 'evil.py':b'import os'}))
    assert 'evil.py' not in {o.name for o in local_run(f'hf://eyes/more@{sha}').iterdir()}

def test_no_config_and_a_huge_one(hub, pack):
    sha = hub.add('eyes/bad', {k:b for k,b in pack.items() if k!='config.json'})
    with pytest.raises(ModelError, match='lacks config.json: it is no run'): local_run(f'hf://eyes/bad@{sha}')
    sha = hub.add('eyes/bad', dict(pack, **{'config.json':b'x'*5_000_001}))
    with pytest.raises(ModelError, match='config.json is too large'): local_run(f'hf://eyes/bad@{sha}')

def test_no_room(hub, ref, monkeypatch):
    import errno
    monkeypatch.setattr(H.shutil, 'disk_usage', lambda p: shutil._ntuple_diskusage(1,1,10))
    with pytest.raises(DownloadError, match='MB are free in .* FUNDUS_HOME'): local_run(str(ref))
    monkeypatch.undo(); monkeypatch.setenv('FUNDUS_HOME', str(H.fundus_home()))

def test_room_that_goes_on_the_way(hub, ref, monkeypatch, capsys):
    import errno, huggingface_hub
    def full(*args, **kw): raise OSError(errno.ENOSPC, 'No space left on device', 'model.safetensors')
    monkeypatch.setattr(huggingface_hub, 'hf_hub_download', full)
    assert main(['predict', ref, *SCANS])==1 and 'no space left' in capsys.readouterr().err and left()==[]

def test_nobody_there(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv('FUNDUS_HOME', str(tmp_path)); monkeypatch.setenv('HF_ENDPOINT', 'http://127.0.0.1:9')
    assert main(['predict', 'hf://eyes/oct@'+'0'*40, *SCANS])==1
    assert 'cannot be reached' in (err := capsys.readouterr().err) and err.count('\n')<=2

def test_stopped_half_way(hub, ref, monkeypatch):
    import huggingface_hub
    real = huggingface_hub.hf_hub_download
    def stop(repo, name, **kw):
        if name=='model.safetensors': raise KeyboardInterrupt
        return real(repo, name, **kw)
    monkeypatch.setattr(huggingface_hub, 'hf_hub_download', stop)
    with pytest.raises(KeyboardInterrupt): local_run(str(ref))
    assert left()==[]

def test_a_run_is_on_the_disk_before_it_has_its_name(hub, ref, monkeypatch):
    "It is checked once, when it comes: a power failure had left it whole by its name, without its weights"
    told,rename = [],Path.rename
    monkeypatch.setattr('os.sync', lambda: told.append('on the disk'), raising=False)
    monkeypatch.setattr(Path, 'rename', lambda a, b: told.append(Path(b)) or rename(a, b))
    fetch_run(ref)
    assert told==['on the disk', hub_folder(ref)]

def test_two_at_once(hub, ref, pack, monkeypatch):
    "The second one's answer was: an error that we did not foresee (OSError: Directory not empty)"
    real,inner = H._download,[]
    def slow(*args):
        real(*args)
        if not inner: inner.append(0); inner.append(fetch_run(ref)) # another begins later, and is faster
    monkeypatch.setattr(H, '_download', slow)
    assert fetch_run(ref)==inner[1]==hub_folder(ref) and {o.name:o.read_bytes() for o in hub_folder(ref).iterdir()}==pack
    assert [o.name for o in hub_folder(ref).parent.iterdir()]==['run']

def test_names_that_are_none():
    for o in ('hf://', 'hf://a', 'hf://a/b@', 'hf://a/b/C', 'hf://../b', 'hf://a/b@../../x'):
        with pytest.raises(ModelError, match='names no run'): read_ref(o)
    with pytest.raises(ModelError, match='a run folder is expected, not int'): read_ref(3)
    assert read_ref('a/b') is None and read_ref(Path('/x')) is None
