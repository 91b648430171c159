"What runs when something was touched"
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
import pytest
from house.shared import MODULES, ROOT

@pytest.fixture(scope='module')
def touched():
    loader = SourceFileLoader('touched', str(ROOT/'.ci/touched'))
    mod = module_from_spec(spec_from_loader('touched', loader))
    loader.exec_module(mod)
    return mod

def told(touched, files, more=False): return [{o.relative_to(ROOT).as_posix() for o in part} for part in touched.belongs(files, more)]

def test_a_page_brings_the_test_of_its_name(touched):
    page = 'nbs/35_data.splits.ipynb'
    assert told(touched, [page])==[{page}, {'tests/data/test_splits.py','tests/house'}]
    pages,found = told(touched, [page], more=True)
    assert {page,'nbs/38_data.audit.ipynb'}<pages and 'nbs/30_data.read.ipynb' not in pages
    assert {'tests/data/test_splits.py','tests/data/test_audit.py'}<found

def test_what_is_shared_brings_those_that_share_it(touched):
    assert {'tests/data/test_read.py','tests/data/test_catalog.py'}<told(touched, ['tests/made.py'])[1]
    assert told(touched, ['tests/vision/conftest.py'])[1]=={'tests/house', *(o.relative_to(ROOT).as_posix() for o in (ROOT/'tests/vision').glob('test_*'))}

def test_facts_bring_the_page_of_their_name(touched):
    for o,page in (('catalog.toml','33_data.catalog'), ('odir.csv','31_data.odir')):
        assert (ROOT/'fundus_fastai/data'/o).exists()
        assert told(touched, [f'fundus_fastai/data/{o}'])==[{f'nbs/{page}.ipynb'},{f'tests/data/test_{page.split(".")[1]}.py','tests/house'}]

def test_other_files_bring_the_house(touched):
    for o in ('README.md', '.ci/run', 'tests/house/test_pages.py', 'nbs/12_gone.ipynb'): assert told(touched, [o])==[set(),{'tests/house'}]
    assert told(touched, [])==[set(),set()]

def test_lessons_bring_themselves(touched):
    page = 'nbs/lessons/08_did_the_patient_leak.ipynb'
    assert told(touched, [page])==[{page},{'tests/house'}]

def test_new_and_changed_files_are_touched(touched, tmp_path, monkeypatch):
    monkeypatch.setattr(touched, 'root', tmp_path)
    for o in (['init','-q','-b','main'], ['config','user.email','a@b'], ['config','user.name','a']): touched.git(*o)
    (tmp_path/'old').write_text('1'); touched.git('add', '.'); touched.git('commit', '-qm', 'first')
    assert touched.touched()==[]
    touched.git('checkout', '-qb', 'mine')
    (tmp_path/'done').write_text('1'); touched.git('add', '.'); touched.git('commit', '-qm', 'second')
    (tmp_path/'old').write_text('2'); (tmp_path/'new').write_text('1')
    assert touched.touched()==['done','new','old'] and touched.touched('HEAD')==['new','old']
    with pytest.raises(SystemExit, match='no such'): touched.touched('such')

# What asks more than one module, and which
WIDE = {
    'cli.kills': 'commands killed at any moment',
    'cli.cli': 'the command in its process',
    'cli.core': 'files, folders, locks and ports that every command stands on',
    'cli.commands': 'training and scoring of real images',
    'cli.terminal': 'what a terminal is shown',
    'cli.older': 'packages that are too old',
    'run.checklists': 'what checklists of reporting ask of a run',
    'cli.windows': 'what Windows does otherwise, done to this system',
    'colab.drive': 'a Drive that is refused, full or mounted',
    'colab.harness': 'pages as a Colab runs them',
    'data.words': 'the vocabulary in tables',
    'explain.places': 'heads that show their places, through all rooms',
    'explain.odd_nets': 'nets that make weights anew or write in place',
    'score.like_R': 'scores beside those of R',
    'run.old_run': 'a run folder of an earlier version',
    'run.positive': 'the positive class in a run',
    'run.predict': 'a table for a clinic',
    'run.provenance': 'what a run keeps of its data',
    'run.shards': 'many machines and ten thousand files',
    'run.reviewer': 'numbers computed again without our code',
    'run.share': 'what is sent to others',
    'score.inputs': 'what no metric takes',
    'score.positive': 'the class that numbers speak of',
    'score.quantities': 'numbers of any unit',
    'hub.hub': 'a net from the hub, by its name',
    'vision.stages': 'layer groups of any net, and weights of the package index',
    'vision.real': 'the table of figures on real eyes',
    'vision.opens': 'how often a file is opened',
    'cli.options': 'what carriers of options refuse and take',
}

def test_every_test_file_is_named_for_a_module():
    "tests/<room>/test_<module>.py, but for what is told above"
    names = {o.removeprefix('fundus_fastai.') for o in MODULES}
    found = {f'{o.parent.name}.{o.stem.removeprefix("test_")}' for o in (ROOT/'tests').rglob('test_*.py') if o.parent.name!='house'}
    assert found-names==set(WIDE)
