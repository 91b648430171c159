"What the house tests share: notebooks, modules, and how to look into them"
import ast, json, re, subprocess, sys
from functools import cache
from importlib.metadata import version
from pathlib import Path
import fundus_fastai

ROOT = Path(__file__).resolve().parents[2]
LIB = Path(fundus_fastai.__file__).parent
sys.path.insert(0, str(ROOT/'.ci'))
from links import notebooks, settings

CFG = settings()
NBS = notebooks()
IDS = [o.relative_to(ROOT/'nbs').as_posix() for o in NBS]
SOURCE = (ROOT/'fundus_fastai').is_dir() # False in the newest lane, which tests the installed wheel
NBDEV2 = version('nbdev').startswith('2.')

def run(*args, **kwargs):
    "Run a program of this environment; its output is in the error if it fails"
    res = subprocess.run([str(o) for o in args], capture_output=True, text=True, **kwargs)
    assert res.returncode==0, f"{args}\n{res.stdout[-3000:]}\n{res.stderr[-3000:]}"
    return res.stdout

@cache
def cells(nb): return json.loads(nb.read_text(encoding='utf-8'))['cells']
def source(cell): return ''.join(cell['source'])
def code(nb): return [source(o) for o in cells(nb) if o['cell_type']=='code']
def exported(src): return re.search(r'^#\|\s*export[si]?\b', src, re.M)

def default_exp(nb):
    "The module that `nb` exports, if any"
    return next((m[1] for o in code(nb) if (m := re.search(r'^#\|\s*default_exp\s+(\S+)', o, re.M))), None)

def number(nb):
    "The number in front of a top-level notebook's name"
    m = re.match(r'(\d+)_', nb.name)
    return int(m[1]) if m and nb.parent==ROOT/'nbs' else None

MODULES = {f'fundus_fastai.{m}':nb for nb in NBS if (m := default_exp(nb))}

def py_file(mod):
    "The generated file of module `mod`"
    return LIB.joinpath(*mod.split('.')[1:]).with_suffix('.py')

def name_of(node):
    "`b` of the syntax `a.b` or `b`"
    return getattr(node, 'attr', getattr(node, 'id', ''))

def plain(src):
    "Cell text without shell lines and magics"
    return '\n'.join(l for l in src.splitlines() if not re.match(r'\s*[!%]', l))

SILENT = re.compile(r'^(test_\w+|assert|.*\b(rmtree|close|race|update|set_num_threads|set_matplotlib_formats|exit)$)')

def shows(src):
    "Does the cell `src` end in a value for the reader?"
    if re.search(r'^#\|\s*(hide|cuda|net)\b', src, re.M) or src.rstrip().endswith(';'): return False
    body = ast.parse(plain(src)).body
    last = body[-1] if body else None
    if not isinstance(last, ast.Expr): return False
    return not (isinstance(last.value, ast.Call) and SILENT.match(ast.unparse(last.value.func)))

@cache
def syntax(mod):
    "The syntax tree of module `mod`"
    return ast.parse(py_file(mod).read_text(encoding='utf-8'))

def loaded(src):
    "Names of the modules that a fresh Python has after `src`"
    return set(run(sys.executable, '-c', f"import sys\n{src}\nprint(*sys.modules)").split())
