"The Dockerfile, read line by line: no docker is needed to see that it asks for what there is"
import inspect, json, re, shlex
import pytest
from fnmatch import fnmatch
from fundus_fastai import commands
from house.shared import CFG, ROOT, SOURCE

def instructions(text):
    "Pairs of instruction and rest of each line, continued lines joined"
    text = re.sub(r'\\\n\s*', ' ', text)
    return [tuple(o.split(None, 1)) for o in text.splitlines() if o.strip() and not o.startswith('#')]

def test_instructions_sees(): assert instructions('# a\nRUN a && \\\n  b\n\nUSER x')==[('RUN','a &&  b'),('USER','x')]

TEXT = (ROOT/'Dockerfile').read_text(encoding='utf-8')
LINES = instructions(TEXT)
def of(name): return [rest for k,rest in LINES if k==name]

def faults(lines):
    "What a careful reader would not let pass"
    images = [o.split()[0] for k,o in lines if k=='FROM']
    for o in images:
        if not re.fullmatch(r'[\w./-]+:\d+\.\d+\.\d+-[\w-]+(@sha256:[0-9a-f]{64})?', o): yield f'{o} is not pinned'
    last = max(i for i,(k,_) in enumerate(lines) if k=='FROM')
    users = [o for k,o in lines[last:] if k=='USER']
    if not users or users[-1] in ('root','0'): yield 'runs as root'
    for k,o in lines:
        if k=='ADD': yield 'ADD fetches and unpacks'
        if k in ('ARG','ENV') and re.search('token|secret|password|key=', o, re.I): yield f'{o} is a secret'
        if k=='RUN' and re.search(r'(curl|wget)\b.*\|', o): yield f'{o} runs what it fetches'
        if k=='RUN' and 'pip install' in o and '--no-cache-dir' not in o: yield f'{o} keeps what it has fetched'

def test_faults_sees():
    bad = 'FROM python:latest\nADD x y\nARG TOKEN=1\nRUN curl x | sh\nRUN pip install y'
    assert len([*faults(instructions(bad))])==6 and list(faults(instructions('FROM a:1.2.3-slim\nUSER x')))==[]

def test_nothing_to_object(): assert list(faults(LINES))==[] and len(set(o.split()[0] for o in of('FROM')))==1

def test_python_is_one_of_ours():
    n = re.search(r'python:(3\.\d+)', TEXT)[1]
    assert tuple(map(int, n.split('.')))>=tuple(map(int, CFG['min_python'].split('.')))
    assert f"'{n}'" in (ROOT/'.github/workflows/test.yml').read_text(encoding='utf-8')

def test_it_runs_the_command_on_the_port_of_the_app():
    (entry,),(cmd,) = (json.loads(of(o)[0]) for o in ('ENTRYPOINT','CMD'))
    assert f'{entry}=fundus_fastai.cli:main' in CFG['console_scripts'].split() and cmd=='--help'
    assert int(of('EXPOSE')[0])==inspect.signature(commands.app).parameters['port'].default and of('STOPSIGNAL')==['SIGINT']

def test_extras_exist():
    extras, = [o.split('=')[1].split(',') for o in of('ARG') if o.startswith('EXTRAS=')]
    assert len(extras)==len(set(extras)) and {f'{o}_requirements' for o in extras}<=set(CFG) and 'app' in extras

def sent(path, rules):
    "Does `path` go to the builder, by the lines of a .dockerignore?"
    parts,res = path.split('/'),True
    ways = ['/'.join(parts[:k]) for k in range(1, len(parts)+1)] # the path and the folders above it
    for o in rules:
        if any(fnmatch(w, o.lstrip('!').replace('**/', '*')) for w in ways): res = o.startswith('!')
    return res

def test_sent_sees():
    rules = ['*', '!a', '!b.txt', '**/__pycache__']
    assert [sent(o, rules) for o in ('a/b/c.py','b.txt','c.txt','d/a','a/__pycache__/x','a/b/__pycache__/x')]==[True,True,False,False,False,False]

def test_what_is_copied_is_there_and_nothing_else_is_sent():
    rules = [o for o in (ROOT/'.dockerignore').read_text().splitlines() if o and not o.startswith('#')]
    copied = [p for o in of('COPY') if not o.startswith('--from') for p in shlex.split(o)[:-1]]
    if SOURCE: assert all((ROOT/o).exists() for o in copied)
    assert all(sent(o, rules) for o in copied) and rules[0]=='*' and sorted(copied)==sorted(o[1:] for o in rules if o[0]=='!')
    for o in ('runs/a/split.csv', 'tests/made.py', '.git/config', 'eye.png', 'fundus_fastai/__pycache__/x.pyc', 'nbs/00_core.ipynb'): assert not sent(o, rules), o

@pytest.mark.parametrize('line', re.findall(r'fundus(?::cuda)? ((?:app|train) .*)', TEXT))
def test_its_examples_are_understood(line):
    from fundus_fastai.cli import make_parser
    make_parser().parse_args(shlex.split(line))
