"A page in Colab: Drive refused, full or mounted, Secrets for subprocesses, a training that goes on in the next runtime"
import errno, os, subprocess, sys, types
from pathlib import Path
import pytest
from fundus_fastai import __version__, colab as C
from fundus_fastai.core import FULL, data_home, fundus_home, whole_file

@pytest.fixture(autouse=True)
def nobody(monkeypatch):
    for k in ('FUNDUS_DATA','FUNDUS_YES',*C.SECRETS): monkeypatch.setenv(k, ''); monkeypatch.delenv(k) # undone at the end
    monkeypatch.setenv('FUNDUS_HOME', os.environ.get('FUNDUS_HOME', ''))

@pytest.fixture
def runtime(tmp_path, monkeypatch):
    "A Colab whose Drive is a folder; `secrets` may be changed, `mount` replaced"
    mod,secrets = types.ModuleType('google.colab'),{'KAGGLE_API_TOKEN':'KGAT_1\n'}
    def get(k):
        if k not in secrets: raise RuntimeError('SecretNotFoundError')
        return secrets[k]
    def mount(where): (Path(where)/'MyDrive').mkdir(parents=True, exist_ok=True)
    mod.userdata,mod.drive,mod.secrets = types.SimpleNamespace(get=get),types.SimpleNamespace(mount=mount),secrets
    monkeypatch.setitem(sys.modules, 'google.colab', mod)
    monkeypatch.setattr(C, 'MOUNT', str(tmp_path/'drive')); monkeypatch.setattr(C, 'LOCAL', str(tmp_path/'local'))
    return mod

def test_elsewhere_nothing_happens(capsys):
    before = dict(os.environ)
    a,b = C.on_drive('lesson'),C.on_drive('lesson')
    assert a.is_dir() and a!=b and dict(os.environ)==before and capsys.readouterr()==('','')

def test_one_function_says_whether_this_is_a_colab(runtime, monkeypatch, capsys):
    assert C.in_colab() and C.colab_secrets() and C.run_folder('a')==fundus_home()/'runs'/f'a-v{__version__}'
    monkeypatch.setattr(C, 'in_colab', lambda: False)
    assert C.colab_secrets()=={} and fundus_home() not in C.run_folder('a').parents and fundus_home() not in C.on_drive('a').parents
    assert capsys.readouterr().err==''

def test_mounted(runtime, tmp_path, capsys):
    home = tmp_path/'drive/MyDrive/fundus_fastai'
    assert C.on_drive('lesson')==home/'runs'/f'lesson-v{__version__}'==C.on_drive('lesson')
    assert fundus_home()==home and data_home()==tmp_path/'local'
    assert 'nothing yet' in capsys.readouterr().err and not list(home.iterdir())

def test_what_is_there_is_said(runtime, tmp_path, capsys):
    runs = C.on_drive('lesson')
    for o in ('a/split.csv','a/report.html','b/split.csv','b/checkpoints/last.safetensors'):
        (runs/o).parent.mkdir(parents=True, exist_ok=True); (runs/o).write_bytes(bytes(600_000))
    (fundus_home()/'archives').mkdir(); (fundus_home()/'archives/kermany2018.zip').write_bytes(bytes(2_000_000))
    capsys.readouterr(); C.on_drive('lesson'); err = capsys.readouterr().err
    for o in ('archive kermany2018 (2.0 MB)', 'run a (1.2 MB, finished)', 'run b (1.2 MB, goes on where it stopped)'): assert o in err

@pytest.mark.parametrize('e', [ValueError('mount failed'), RuntimeError('MessageError: credential propagation was unsuccessful')])
def test_a_refusal_is_a_sentence(runtime, capsys, e):
    home = fundus_home()
    def mount(where): raise e
    runtime.drive.mount = mount
    runs,err = C.on_drive('lesson'),capsys.readouterr().err
    assert str(e) in err and err.count('\n')==1 and "lost with it" in err and 'run this cell again' in err
    assert fundus_home()==home and 'FUNDUS_DATA' not in os.environ and runs==home/'runs'/f'lesson-v{__version__}'

def test_a_full_drive_is_a_sentence(runtime, capsys, monkeypatch):
    home = fundus_home()
    def full(self, b): raise OSError(errno.ENOSPC, 'No space left on device')
    monkeypatch.setattr(Path, 'write_bytes', full)
    C.on_drive(); err = capsys.readouterr().err
    assert 'takes no file (No space left on device)' in err and fundus_home()==home

@pytest.mark.parametrize('how', ['refused','full'])
def test_a_drive_that_was_there_and_is_not(runtime, tmp_path, capsys, monkeypatch, how):
    "It said that runs lie on the runtime's disk, and gave their folder on Drive; a full one kept the file that asks"
    assert tmp_path/'drive' in C.on_drive('lesson').parents
    def refuse(where): raise ValueError('mount failed')
    def full(self, b):
        with self.open('wb') as f: f.write(b[:100])
        raise OSError(errno.ENOSPC, 'No space left on device')
    if how=='refused': runtime.drive.mount = refuse
    else: monkeypatch.setattr(Path, 'write_bytes', full)
    runs = C.on_drive('lesson')
    assert "lies on the runtime's disk" in capsys.readouterr().err and runs.parents[1]==fundus_home()==data_home()==tmp_path/'local'
    assert not [o for o in (tmp_path/'drive').rglob('*') if o.is_file()]

def test_secrets_reach_a_subprocess_and_new_ones_replace_old(runtime):
    def seen(): return subprocess.run([sys.executable, '-c', "import os; print(os.environ.get('KAGGLE_API_TOKEN'))"],
                                      capture_output=True, text=True).stdout.strip()
    assert seen()=='None'
    C.on_drive(); assert seen()=='KGAT_1'
    runtime.secrets['KAGGLE_API_TOKEN'] = 'KGAT_2'
    C.on_drive(); assert seen()=='KGAT_2'

def test_nobody_answers(capsys, monkeypatch):
    def ask(q): raise NotImplementedError('raw_input was called, but this frontend does not support input requests.')
    monkeypatch.setattr('builtins.input', ask)
    assert C.agreed('5.5 GB?') is False and 'Nobody answers' in capsys.readouterr().err
    monkeypatch.setenv('FUNDUS_YES', '1'); assert C.agreed('5.5 GB?')

def test_a_disk_without_modes_and_a_full_one(tmp_path, monkeypatch):
    "Some mounted disks refuse chmod; a full one is told with what to do, and the older file is whole"
    def no(*args): raise PermissionError(errno.EPERM, 'Operation not permitted')
    monkeypatch.setattr(os, 'chmod', no)
    with whole_file(tmp_path/'a.txt') as f: f.write_text('old')
    with pytest.raises(OSError, match='make room') as e:
        with whole_file(tmp_path/'a.txt') as f: f.write_text('ne'); raise OSError(errno.ENOSPC, 'No space left on device')
    assert e.value.errno==errno.ENOSPC and (tmp_path/'a.txt').read_text()=='old' and len(list(tmp_path.iterdir()))==1

@pytest.mark.parametrize('code', FULL)
def test_each_error_of_a_full_disk_is_told(tmp_path, code):
    with pytest.raises(OSError, match='make room') as e:
        with whole_file(tmp_path/'a.txt'): raise OSError(code, os.strerror(code))
    assert e.value.errno==code
