"What is packed, and that nothing in it could run code from a file"
import ast, shutil, sys, zipfile
from importlib.metadata import distribution
from pathlib import Path
import pytest
from house.shared import LIB, MODULES, ROOT, SOURCE, name_of, run

@pytest.fixture(scope='module')
def packed(tmp_path_factory):
    "Names of the files in the wheel: built here from a source tree, or as installed"
    installed = distribution('fundus_fastai').files
    if not SOURCE: return {str(o) for o in installed if o.suffix!='.pyc' and '..' not in o.parts}
    d = tmp_path_factory.mktemp('wheel')
    shutil.copytree(ROOT/'fundus_fastai', d/'src/fundus_fastai', ignore=shutil.ignore_patterns('__pycache__'))
    for o in 'settings.ini pyproject.toml setup.py README.md LICENSE MANIFEST.in'.split(): shutil.copy(ROOT/o, d/'src')
    run(sys.executable, '-m', 'build', '--wheel', '--no-isolation', '--outdir', d, d/'src')
    return set(zipfile.ZipFile(next(d.glob('*.whl'))).namelist())

TEMPLATES = {f'fundus_fastai/run/templates/{o}' for o in
             'report.html.j2 findings.html.j2 label.html.j2 macros.html.j2 checklists.html.j2 words.j2 report.css card.md.j2 terms.md.j2 pair.md.j2'.split()}
NETS = {f'fundus_fastai/anatomy/{o}' for o in ('landmarks.safetensors','cup.safetensors','lesions.safetensors','vessels.safetensors','CARD.md')}
PAGE = {f'fundus_fastai/ship/browser/{o}' for o in
        'index.html.j2 page.css icon.svg boot.js page.mjs worker.mjs eye.mjs picture.mjs answer.mjs sw.js.j2 ort/ort.json ort/LICENSE.txt ort/NOTICES.txt.xz '
        'ort/ort.wasm.min.mjs.xz ort/ort-wasm-simd-threaded.mjs.xz ort/ort-wasm-simd-threaded.wasm.xz'.split()}
APP = {f'fundus_fastai/app/templates/{o}' for o in 'answers.html.j2 app.css banner.html.j2 macros.html.j2 report.html.j2 rows.html.j2'.split()}
QUIZ = {f'fundus_fastai/quiz/templates/{o}' for o in ('quiz.html.j2','quiz.css','quiz.js')}
FACTS = {'fundus_fastai/data/catalog.toml','fundus_fastai/data/odir.csv','fundus_fastai/run/speed.json'}

def test_wheel_holds_the_library_and_nothing_else(packed):
    files = {o for o in packed if '.dist-info/' not in o}
    want = {o.replace('.', '/')+'.py' for o in MODULES}
    parents = {p.as_posix()+'/__init__.py' for o in want for p in Path(o).parents if p.name}
    assert files == want | parents | TEMPLATES | FACTS | NETS | PAGE | QUIZ | APP | {'fundus_fastai/_modidx.py','fundus_fastai/__main__.py'}

# --- no pickle

PICKLES = {'pickle','cPickle','_pickle','dill','cloudpickle','joblib','shelve','marshal','jsonpickle'}
UNSAFE = {'load_learner','read_pickle','to_pickle'}

def pickles(tree):
    "Whatever in `tree` could run code from a file"
    def kw(n, name, default=None):
        return next((getattr(o.value, 'value', None) for o in n.keywords if o.arg==name), default)
    for n in ast.walk(tree):
        if isinstance(n, ast.Import): yield from (o.name for o in n.names if o.name.split('.')[0] in PICKLES)
        if isinstance(n, ast.ImportFrom) and (n.module or '').split('.')[0] in PICKLES: yield n.module
        if isinstance(n, (ast.Attribute,ast.Name)) and name_of(n) in UNSAFE: yield name_of(n)
        if not isinstance(n, ast.Call): continue
        if ast.unparse(n.func)=='torch.load' and kw(n, 'weights_only') is not True: yield ast.unparse(n)
        if kw(n, 'allow_pickle', False) is not False: yield ast.unparse(n)

def test_pickles_sees():
    def seen(src): return list(pickles(ast.parse(src)))
    for o in ('import pickle', 'from joblib import load', 'torch.load(f)', 'torch.load(f, weights_only=False)',
              'torch.load(f, weights_only=w)', 'np.load(f, allow_pickle=True)', 'np.load(f, allow_pickle=a)',
              'load_learner(f)', 'pd.read_pickle(f)'): assert seen(o), o
    assert seen('torch.load(f, weights_only=True); np.load(f, allow_pickle=False)') == []

@pytest.mark.parametrize('path', sorted(LIB.rglob('*.py')), ids=lambda o: o.relative_to(LIB).as_posix())
def test_no_pickle(path): assert list(pickles(ast.parse(path.read_text(encoding='utf-8')))) == []

# --- a release of the nets

@pytest.mark.skipif(not SOURCE, reason="of a source tree")
def test_release_of_our_nets(tmp_path):
    "Each net of the wheel, by its card, with the terms of the data that the card names, and digests; one without a card is none"
    from hashlib import sha256
    from release_nets import release
    files = {o.relative_to(tmp_path/'r').as_posix():o.read_bytes() for o in release(LIB, tmp_path/'r')}
    assert {f'{o.parent.name}/{o.name}' for o in LIB.rglob('*.safetensors')}=={o for o in files if o.endswith('.safetensors')}
    card,terms = (files[f'anatomy/{o}.md'].decode() for o in ('README','TERMS'))
    assert card.startswith('---\n') and 'license: apache-2.0' in card and 'Not a medical device' in card and '(idrid)' in terms and 'EyePACS' not in terms
    told = dict(reversed(o.split('  ')) for o in files['anatomy/SHA256SUMS'].decode().splitlines())
    assert told=={k.split('/')[1]:sha256(b).hexdigest() for k,b in files.items() if k.startswith('anatomy/') and not k.endswith('SUMS')}
    shutil.copytree(LIB/'anatomy', tmp_path/'lib/anatomy', ignore=shutil.ignore_patterns('__pycache__'))
    shutil.copy(LIB/'anatomy/cup.safetensors', tmp_path/'lib/anatomy/secret.safetensors')
    with pytest.raises(SystemExit, match='does not name it'): release(tmp_path/'lib', tmp_path/'s')
