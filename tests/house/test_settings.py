"Settings, workflows and the sidebar say the same"
import re, tomllib
from importlib.metadata import distribution
import pytest
import fundus_fastai
from house.shared import CFG, LIB, ROOT

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

def test_no_upper_bounds():
    "Colab must not have to downgrade anything for us"
    assert not re.search(r'<|==|~=', CFG['requirements'])

def test_extras_have_code():
    "An extra is there for code that needs it: no promise of what is to come"
    extras = {k.removesuffix('_requirements'):v for k,v in CFG.items() if k.endswith('_requirements')}
    assert set(extras)=={'explain','test','dev'}
    src = ''.join(o.read_text(encoding='utf-8') for o in LIB.rglob('*.py'))
    assert all(f"need('{o}'" in src for o in extras['explain'].split())

def test_installed_metadata():
    meta = distribution('fundus_fastai').metadata
    assert meta['Version'] == CFG['version']
    assert {'dev','explain','test'} <= set(meta.get_all('Provides-Extra')) # an old editable install may know more
    assert any(o == f"Repository, {CFG['git_url']}" for o in meta.get_all('Project-URL'))
    scripts = {o.name:o.value for o in distribution('fundus_fastai').entry_points if o.group=='console_scripts'}
    assert scripts == {'fundus': 'fundus_fastai.cli:main'}

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
