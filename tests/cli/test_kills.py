"Killed in the middle of the work, and called again: a sample of `tests/attack/kills.py`"
import contextlib, os, signal, subprocess, sys, time
from pathlib import Path
from types import SimpleNamespace
import pytest
from fundus_fastai import cli
from fundus_fastai.data import audit as data_audit
from fundus_fastai.commands import audit
from fundus_fastai.cli import main
from fundus_fastai.core import DataError, LeakError, write_json
from fundus_fastai.data.load import open_data
from fundus_fastai.data.splits import save_split, split_patients
from fundus_fastai.phantom.oct import write_kermany

TESTS = Path(__file__).parents[1]

@pytest.mark.skipif(os.name=='nt', reason='signals')
def test_killed_and_called_again():
    path = os.pathsep.join([str(Path(cli.__file__).parents[1]), str(TESTS)])
    r = subprocess.run([sys.executable,TESTS/'attack/kills.py','--what','audit','train','--n','2','--seed','5'], capture_output=True,
                       text=True, env=os.environ|dict(PYTHONPATH=path, OMP_NUM_THREADS='1', MPLBACKEND='Agg', PYTHONWARNINGS='ignore'))
    assert r.returncode==0 and r.stdout.count(', 0 faults')==2, f'{r.stdout}\n{r.stderr}'

@pytest.mark.parametrize('at', ['make_parser','datasets'])
def test_ctrl_c_at_any_time_is_a_sentence(monkeypatch, capsys, at):
    "Also before the verb is known"
    def stop(): raise KeyboardInterrupt
    if at=='datasets': monkeypatch.setattr(cli.verbs, at, stop)
    else: monkeypatch.setattr(cli, at, lambda only: stop())
    assert cli.main(['datasets'])==130
    assert 'stopped' in capsys.readouterr().err

@pytest.mark.skipif(os.name=='nt', reason='signals')
@pytest.mark.parametrize('sig', [signal.SIGINT, signal.SIGTERM])
def test_a_stop_while_torch_is_imported_waits_for_its_end(monkeypatch, capsys, sig):
    "Its C++ ended the program with a core, or told of a ValueError"
    spec,came,was = SimpleNamespace(_initializing=True),[],signal.signal(signal.SIGINT, signal.default_int_handler) # not where `&` began it
    monkeypatch.setitem(sys.modules, 'torch', SimpleNamespace(__spec__=spec))
    def importing():
        signal.raise_signal(sig)
        time.sleep(.3)
        came.append('to its end')
        spec._initializing = False
        time.sleep(5)
        came.append('too far')
    monkeypatch.setattr(cli.verbs, 'datasets', importing)
    assert cli.main(['datasets'])==128+sig and came==['to its end'] and capsys.readouterr().err=='fundus datasets: stopped\n'
    assert signal.signal(signal.SIGINT, was)==signal.default_int_handler

def test_one_verbs_options_are_read(monkeypatch):
    "Those of all take longer than the rest of a start"
    read = []
    monkeypatch.setattr(cli, 'told', lambda f: read.append(f.__name__) or {})
    for words in (['--help'],['datasets','--nosuch'],['nosuch']):
        with pytest.raises(SystemExit): cli.main(words)
    assert read==['datasets']

def audited(tmp_path):
    "A folder for an audit of phantoms, and what makes it there, whatever leaks"
    write_kermany(tmp_path/'data', patients=8, seed=1)
    out = tmp_path/'out'
    def made(**kw):
        with contextlib.suppress(LeakError): audit(str(tmp_path/'data'), out=out, **kw)
    return out,made

def test_an_audit_of_which_a_kill_left_the_table(tmp_path):
    "It is ours, and made again; the table of somebody else is not"
    out,made = audited(tmp_path)
    made()
    (out/'audit.json').unlink()
    made(force=True)
    assert (out/'audit.json').exists()
    (out/'audit.json').unlink()
    (out/'audit.csv').write_text('my,own\n')
    with pytest.raises(DataError, match='audit.csv, which'): audit(str(tmp_path/'data'), out=out, force=True)

def test_nothing_old_of_an_audit_stands_beside_what_is_new(tmp_path, monkeypatch):
    "Stopped, `--force` left findings of a leak beside an older summary without one; and of two at once the later one wrote over the other, unasked"
    out,made = audited(tmp_path)
    made()
    def stop(*args): raise KeyboardInterrupt
    was = {o.name:o.read_bytes() for o in out.iterdir()}
    next((tmp_path/'data').rglob('*.jpeg')).unlink()
    with monkeypatch.context() as m, pytest.raises(KeyboardInterrupt):
        m.setattr(data_audit, 'write_json', stop)
        made(force=True)
    assert was.keys()=={'audit.csv','audit.json'} and {o.name:o.read_bytes() for o in out.iterdir()}==was
    (out/'audit.json').unlink()
    look = data_audit.audit
    def other(*args, **kwargs):
        (out/'audit.csv').write_text('check,path_a,\n')
        return look(*args, **kwargs)
    (out/'audit.csv').unlink()
    out.rmdir()
    monkeypatch.setattr(data_audit, 'audit', other)
    with pytest.raises(DataError, match='is not empty'): made()

def test_phantoms_of_a_run_are_audited_as_they_were_drawn(tmp_path, capsys):
    "`fundus audit phantom --run RUN` drew others: 144 of 144 images are not in split.csv, was it made for other data?"
    df = split_patients(open_data('phantom', patients=8, seed=5))
    save_split(df, tmp_path/'run/split.csv')
    write_json(tmp_path/'run/config.json', dict(source='phantom', data='kermany2018', training=dict(seed=5, patients=8)))
    run = 'audit','phantom','--run',tmp_path/'run','--force','--out',tmp_path/'out'
    assert main(run)==0 and f'{len(df)} images of 8 patients' in capsys.readouterr().out
    assert main([*run,'--patients',9])==1 and 'taught with 8 phantom patients: leave --patients out' in capsys.readouterr().err
    assert main([*run,'--seed',6])==1 and 'was it made for other data' in capsys.readouterr().err
