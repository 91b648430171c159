"What all tests share: no display, no credentials, a home of their own, and flags for what takes long"
import gc, os
from pathlib import Path
import pytest

os.environ['MPLBACKEND'] = 'Agg'
os.environ.setdefault('OMP_NUM_THREADS', '1') # test files run side by side, one a core
for k in [k for k in os.environ if k.startswith('KAGGLE_')]: del os.environ[k]
os.fsync = lambda fd: None # no test pulls the plug, and a disk takes long

def pytest_addoption(parser):
    parser.addoption('--flags', default='', help="marked tests to run as well, e.g. 'slow net'")

def pytest_collection_modifyitems(config, items):
    wanted = set(config.getoption('--flags').split())
    for item in items:
        off = {'slow','cuda','net'} & {o.name for o in item.iter_markers()} - wanted
        if off: item.add_marker(pytest.mark.skip(reason=f"needs --flags '{' '.join(sorted(off))}'"))

@pytest.fixture(scope='module', autouse=True)
def settled():
    """What the imports and the files before have made stays, so that no collection of garbage in this one walks through it: a full one
    takes under .01 s instead of .3"""
    gc.collect()
    gc.freeze()

@pytest.fixture(scope='session', autouse=True)
def fundus_home_dir(tmp_path_factory):
    "Downloads and phantoms of the tests go to a folder that goes away"
    before,home = os.environ.get('FUNDUS_HOME'),tmp_path_factory.mktemp('fundus_home')
    os.environ['FUNDUS_HOME'] = str(home)
    yield home
    if before is None: del os.environ['FUNDUS_HOME']
    else: os.environ['FUNDUS_HOME'] = before

def _folder(var):
    "The folder that `var` names, `None` where it is not set; a wrong one is an error, not a skip"
    if not os.environ.get(var): return None
    path = Path(os.environ[var]).resolve()
    assert path.is_dir(), f"{var} names {path}, which is no folder"
    return path

@pytest.fixture(scope='session')
def test_data():
    "Real images to run on"
    return _folder('FUNDUS_TEST_DATA') or pytest.skip("FUNDUS_TEST_DATA is not set")

@pytest.fixture(scope='session')
def test_weights():
    "Pretrained weights to run with"
    path = _folder('FUNDUS_TEST_WEIGHTS')
    if path is None and (data := _folder('FUNDUS_TEST_DATA')): path = data.parent/'weights'
    if path and path.is_dir(): return path
    pytest.skip("neither FUNDUS_TEST_WEIGHTS nor FUNDUS_TEST_DATA/../weights is there")

@pytest.fixture
def light(monkeypatch):
    "No report is drawn: for runs whose report nobody reads"
    from fundus_fastai.run.report import Report
    monkeypatch.setattr(Report, 'html', lambda self: '<html>fundus_fastai</html>')

@pytest.fixture(scope='module')
def drawn(tmp_path_factory):
    "A function of a name: the truth and the folder of that layout's phantoms, drawn once a module"
    from fundus_fastai.phantom.layouts import write_layout
    home,done = tmp_path_factory.mktemp('drawn'),{}
    def get(name, n=22):
        if name not in done: done[name] = write_layout(name, home/name, patients=n, seed=1, size=128)
        return done[name],home/name
    return get
