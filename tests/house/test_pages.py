"Pages: in step with library and README, how they open, what they show"
import ast, base64, builtins, json, re, shutil, sys
import pytest
from house.shared import CFG, IDS, NBDEV2, NBS, ROOT, SOURCE, cells, code, plain, run, shows, source
from links import badge, install

# What is switched off on purpose: notebook -> reason, or 'notebook:text of the cell' -> reason
OFF = {}

# --- in step

def nbdev(mod, name, cwd): run(sys.executable, '-c', f'from nbdev.{mod} import {name}; {name}()', cwd=cwd)

@pytest.mark.parametrize('script', ['links','sidebar','readme'])
def test_derived_text_is_in_step(script): run(sys.executable, ROOT/f'.ci/{script}.py', '--check')

def test_readme_commands():
    lines = (ROOT/'README.md').read_text(encoding='utf-8').splitlines()
    assert "pip install . && fundus demo" in lines
    assert "pip install -e '.[dev]' && nbdev_test && pytest -q tests" in lines
    sought = re.search(r'grep -m1 -x "(.+)" README.md', (ROOT/'.ci/run').read_text())[1]
    assert any(re.fullmatch(sought, o) for o in lines), "the check of a clean clone finds no command to run"

def unknown_in(text):
    "Names that the Python of a page reads, and that neither it nor `fundus_fastai.all` has given"
    import fundus_fastai.all as face
    tree = [n for o in re.findall(r'```python\n(.*?)```', text, re.S) for n in ast.walk(ast.parse(o))]
    read,given = ({n.id for n in tree if isinstance(n, ast.Name) and isinstance(n.ctx, o)} for o in (ast.Load,ast.Store))
    return {o for o in read-given if not hasattr(face, o) and not hasattr(builtins, o)}

def test_unknown_sees(): assert unknown_in('```python\ndf = open_data(demo)\nlen(df)\n```')=={'demo'}

def test_readme_lines_name_nothing_that_its_reader_lacks(): assert unknown_in((ROOT/'README.md').read_text(encoding='utf-8'))==set()

def test_readme_links_to_notebooks_that_exist():
    found = re.findall(r'/blob/[\w.-]+/(nbs/\S+?\.ipynb)\)', (ROOT/'README.md').read_text(encoding='utf-8'))
    assert found and [o for o in found if not (ROOT/o).exists()] == []

def tree(d):
    "Relative path -> content of all modules in `d`"
    files = [o for o in d.rglob('*.py') if '__pycache__' not in o.parts]
    return {o.relative_to(d).as_posix():o.read_bytes() for o in files}

def different(a, b): return sorted(k for k in a.keys()|b.keys() if a.get(k)!=b.get(k))

@pytest.fixture(scope='module')
def anew(tmp_path_factory):
    "A copy of the notebooks, cleaned, and the library exported from them into an empty folder"
    if not (NBDEV2 and SOURCE): pytest.skip("export and clean belong to nbdev 2 and a source tree")
    d = tmp_path_factory.mktemp('anew')/'repo'
    shutil.copytree(ROOT/'nbs', d/'nbs', ignore=shutil.ignore_patterns('.ipynb_checkpoints'))
    for o in ('settings.ini','pyproject.toml'): shutil.copy(ROOT/o, d)
    nbdev('clean', 'nbdev_clean', d)
    nbdev('doclinks', 'nbdev_export', d)
    return d

def test_library_is_what_the_notebooks_export(anew):
    assert different(tree(anew/'fundus_fastai'), tree(ROOT/'fundus_fastai')) == ['__main__.py'] # three lines that call the command

def test_notebooks_are_clean(anew):
    assert [o for o in NBS if (anew/o.relative_to(ROOT)).read_bytes()!=o.read_bytes()] == []

# --- pages

def switched_off(nb):
    "Whatever in `nb` the test tool passes over without a word"
    name = nb.relative_to(ROOT/'nbs').as_posix()
    if any(o[0] in '_.' for o in name.split('/')) or (nb.parent/'.notest').exists(): yield name
    if any('skip_exec' in source(o) for o in cells(nb)[:3] if o['cell_type']!='code'): yield name
    for src in code(nb):
        if re.search(r'^#\|\s*eval:\s*false', src, re.M|re.I) or 'nbdev_export(' in src: yield f'{name}:{src}'

def test_only_what_we_know_is_switched_off(): assert {o for nb in NBS for o in switched_off(nb)} == set(OFF)

@pytest.mark.parametrize('nb', NBS, ids=IDS)
def test_page_opens_with_title_promise_and_badge(nb):
    md = '\n\n'.join(source(o) for o in cells(nb)[:3] if o['cell_type']=='markdown')
    assert re.match(r'# \S.*\n+> \S', md), "first a title (# ...), then a promise (> ...)"
    if nb.name=='index.ipynb': return
    assert badge(nb, CFG) in [source(o).strip() for o in cells(nb)]
    assert install(nb, CFG) in [source(o).strip() for o in cells(nb)]

def gives(src):
    "Does the cell `src` end in a value for sure: in a name, a list, a tuple, or in a call of Python's own?"
    if not shows(src): return False
    v = ast.parse(plain(src)).body[-1].value
    return not isinstance(v, ast.Call) or hasattr(builtins, ast.unparse(v.func))

def test_gives_sees():
    assert all(map(gives, ('a', 'f(1), f(2)', 'sorted(a)', 'a.b[:3]'))) and not any(map(gives, ('touch(a)', 'server.stop()', '#| hide\na', 'a;')))

@pytest.mark.parametrize('nb', NBS, ids=IDS)
def test_what_a_page_shows_is_saved(nb):
    "A page is read before it is run"
    assert [source(o)[:80] for o in cells(nb) if o['cell_type']=='code' and gives(source(o)) and not o['outputs']] == []

@pytest.mark.parametrize('nb', NBS, ids=IDS)
def test_files_of_tests_that_a_page_names_are_there(nb):
    md = '\n'.join(source(o) for o in cells(nb) if o['cell_type']=='markdown')
    assert [o for o in re.findall(r'`(tests/[\w./]+)`', md) if not (ROOT/o).exists()] == []

def outputs(nb): return [o for c in cells(nb) for o in c.get('outputs', [])]

def picture_bytes(out):
    "Size of the pictures in an output, those inside HTML included"
    data = {k:''.join(v) if isinstance(v, list) else str(v) for k,v in out.get('data', {}).items()}
    inline = re.findall(r'data:image/[\w+]+;base64,([\w+/=]+)', data.get('text/html', ''))
    return (sum(len(base64.b64decode(v)) for k,v in data.items() if k in ('image/png','image/jpeg'))
            + len(data.get('image/svg+xml', '')) + sum(len(o)*3//4 for o in inline))

def text(out):
    "Everything in an output that is not a coded picture"
    shown = {k:v for k,v in out.get('data', {}).items() if not k.startswith('image/')}
    return re.sub(r'base64,[\w+/=]+', '', json.dumps(out | {'data':shown}))

@pytest.mark.parametrize('nb', NBS, ids=IDS)
def test_outputs_are_light_and_name_no_machine(nb):
    most = 400_000 if nb.parent.name=='lessons' else 300_000 # figures as wide as the text, at 110 dots an inch
    assert sum(map(picture_bytes, outputs(nb))) < most
    shown = [m[0] for o in outputs(nb) if (m := re.search(r'.{0,40}/(tmp|root|work|home|opt|Users)/.{0,40}', text(o)))]
    assert shown == []
