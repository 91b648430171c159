"The command line as a person meets it: what each verb leaves behind, and one clear sentence for each mistake"
import ctypes, hashlib, io, json, os, platform, random, re, shutil, signal, socket, struct, subprocess, sys, time, warnings, zlib
from pathlib import Path
import numpy as np, pandas as pd, pytest
from PIL import Image
from sklearn.metrics import accuracy_score, average_precision_score, balanced_accuracy_score, recall_score, roc_auc_score
import fundus_fastai
from fundus_fastai.cli import hear_warnings, main
from fundus_fastai.core import EyeWarning
from fundus_fastai.data.load import open_data

newest = pytest.mark.newest # what the newest fastcore and fastai could break; the rest would say the same twice

# ---- processes --------------------------------------------------------------------------------------------------
# Importing torch takes longer than most commands run. So one process imports it, and forks a child for each command:
# a process of its own, with its own arguments, streams, limits and exit status, a few milliseconds old.

def forker():
    "Read a job a line, fork, run `fundus` in the child; answer its pid, then its exit status"
    import gc, resource, torch
    import fundus_fastai.all, sklearn.linear_model, sklearn.pipeline # the slow part: no child does it again,
    from fundus_fastai.cli import main
    gc.collect()
    gc.freeze() # nor walks through what it made
    for line in sys.stdin:
        if not (pid := os.fork()): child(json.loads(line), main, resource, torch)
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)

def child(job, main, resource, torch):
    "One command, from a fresh fork to the end of the process"
    os.chdir(job['cwd'])
    torch.seed(); np.random.seed(); random.seed() # a fork repeats its parent's chance, a new process does not
    for k,p in ((1,job['out']),(2,job['err'])): os.dup2(os.open(p, os.O_WRONLY|os.O_CREAT|os.O_TRUNC), k)
    if job['file_limit']: resource.setrlimit(resource.RLIMIT_FSIZE, (job['file_limit'],)*2)
    if job['plain_user'] and os.geteuid()==0: drop_rights()
    signal.signal(signal.SIGINT, signal.default_int_handler) # a job in the background inherits one that ignores it
    sys.argv = ['fundus', *job['argv']]
    status = 99
    try: status = main()
    except SystemExit as e: status = e.code if isinstance(e.code, int) else 1
    except BaseException: import traceback; traceback.print_exc(); status = 1
    finally:
        sys.stdout.flush(); sys.stderr.flush()
        os._exit(status)

def drop_rights():
    "Give up root's right to pass by permissions (capset with nothing in it)"
    nr = {'x86_64':126, 'aarch64':91}[platform.machine()]
    ctypes.CDLL(None).syscall(nr, (ctypes.c_uint32*2)(0x20080522, 0), (ctypes.c_uint32*6)())

class Result:
    def __init__(self, verb, status, out, err): self.verb,self.status,self.out,self.err = verb,status,out,err
    def __repr__(self): return f"{self.verb} -> {self.status}\n--- stdout\n{self.out}\n--- stderr\n{self.err}"
    @property
    def sentence(self):
        "What the program said about the mistake"
        parts = self.err.split(f'fundus {self.verb}: ')
        assert len(parts)==2, f"one sentence expected: {self!r}"
        return parts[1]
    def ok(self):
        assert self.status==0 and 'Traceback' not in self.err, repr(self)
        return self
    def refused(self, *words, status=1):
        "It failed, said why in one sentence with these words, and showed no traceback"
        assert self.status==status and 'Traceback' not in self.err, repr(self)
        assert 'did not foresee' not in self.err, repr(self)
        for o in words: assert str(o).lower() in self.sentence.lower(), f"{o!r} is not in: {self!r}"
        return self

@pytest.fixture(scope='session')
def env(tmp_path_factory, fundus_home_dir):
    "A person without credentials, caches or a network that matters; one thread, for two busy cores"
    home = tmp_path_factory.mktemp('person')
    e = {k:v for k,v in os.environ.items() if not k.startswith(('HF_','KAGGLE'))}
    return e | dict(HOME=str(home), HF_HOME=str(home/'hf'), TORCH_HOME=str(home/'torch'), OMP_NUM_THREADS='1', MPLBACKEND='Agg',
                    PYTHONPATH=str(Path(fundus_fastai.__file__).parents[1]), PYTHONWARNINGS='ignore', FUNDUS_HOME=str(fundus_home_dir))

class Fundus:
    "Run `fundus` in a forked process"
    def __init__(self, env, tmp):
        code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import test_cli; test_cli.forker()"
        self.p = subprocess.Popen([sys.executable,'-c',code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
        self.tmp,self.n = tmp,0
    def start(self, *argv, file_limit=None, plain_user=False, out=None, cwd=None):
        self.n += 1
        self.argv,self.out,self.err = [str(o) for o in argv],Path(out or self.tmp/f'{self.n}.out'),self.tmp/f'{self.n}.err'
        self.err.touch()
        job = dict(argv=self.argv, out=str(self.out), err=str(self.err), cwd=str(cwd or self.tmp), file_limit=file_limit, plain_user=plain_user)
        self.p.stdin.write(json.dumps(job)+'\n'); self.p.stdin.flush()
        return int(self.p.stdout.readline())
    def end(self):
        status = int(self.p.stdout.readline())
        out = self.out.read_text() if self.out.is_file() else ''
        return Result(self.argv[0] if self.argv else '', status, out, self.err.read_text())
    def __call__(self, *argv, **kw):
        self.start(*argv, **kw)
        return self.end()
    def stop_at(self, text, sig, *argv):
        "Send `sig` as soon as `text` is on stderr"
        pid,t = self.start(*argv),time.time()
        while text not in self.err.read_text() and time.time()-t<60: time.sleep(.02)
        os.kill(pid, sig)
        return self.end()

@pytest.fixture(scope='session')
def fundus(env, tmp_path_factory):
    f = Fundus(env, tmp_path_factory.mktemp('cli'))
    yield f
    f.p.stdin.close(); f.p.wait(30)

def real(env): # the installed script where there is one
    script = Path(sys.executable).parent/'fundus'
    return [str(script)] if script.exists() else [sys.executable,'-c','import sys; from fundus_fastai.cli import main; sys.exit(main())']

# ---- a small run, phantoms, tables and broken images ------------------------------------------------------------

PHANTOM = ['--data','phantom','--patients',24,'--seed',3]
OTHERS = ['--data','phantom','--patients',12,'--seed',5] # other patients
NET = ['--arch','resnet10t','--weights','none','--size',64,'--bs',16,'--workers',0]
FAST = [*NET,'--epochs',1,'--maps',0]
FULL = [*NET,'--epochs',2,'--maps',1]
RUN_FILES = {'model.safetensors','config.json','split.csv','history.csv','validation.csv','predictions.csv','metrics.json','report.html','report.json','README.md','TERMS.md','SHA256SUMS'}

def names(folder): return {o.name for o in Path(folder).iterdir()}
def digest(folder): return {str(o.relative_to(folder)):hashlib.sha256(o.read_bytes()).hexdigest() for o in Path(folder).rglob('*') if o.is_file()}

@pytest.fixture(scope='session')
def trained(fundus, tmp_path_factory):
    run = tmp_path_factory.mktemp('runs')/'run'
    return run, fundus('train','oct',*PHANTOM,*FULL,'--out',run).ok()

@pytest.fixture(scope='session')
def run(trained): return trained[0]

@pytest.fixture
def copy(run, tmp_path):
    "The run, to be spoiled"
    return Path(shutil.copytree(run, tmp_path/'copy'))

@pytest.fixture(scope='session')
def phantoms(run, fundus_home_dir):
    "The folder that the run was trained on"
    return next(fundus_home_dir.glob('phantoms/*24-patients-seed-3*'))

@pytest.fixture(scope='session')
def scans(phantoms): return sorted(phantoms.rglob('*.jpeg'))

@pytest.fixture(scope='session')
def table(phantoms, scans, run):
    "A person's table of those scans, and which side of the run each was on"
    t = pd.DataFrame(dict(file=[str(o.relative_to(phantoms)) for o in scans], pid=[o.stem.split('-')[1] for o in scans],
                          dx=[o.parent.name for o in scans], DME=[int(o.parent.name=='DME') for o in scans]))
    side = pd.read_csv(run/'split.csv', dtype=str).set_index('path').split
    return t.assign(side=t.file.map(side))

@pytest.fixture
def local(table, scans, tmp_path):
    "The same scans as `local/<n>.jpeg` with a table beside them, far from any provenance: (folder, table)"
    to = tmp_path/'local'; to.mkdir()
    for i,o in enumerate(scans): shutil.copy(o, to/f'{i}.jpeg')
    return to, table.drop(columns='side').assign(file=[f'{i}.jpeg' for i in range(len(scans))])

def png(w, h, data=b''):
    "A PNG whose header may promise what its data does not hold"
    chunk = lambda k,b: struct.pack('>I',len(b))+k+b+struct.pack('>I',zlib.crc32(k+b))
    return b'\x89PNG\r\n\x1a\n'+chunk(b'IHDR',struct.pack('>IIBBBBB',w,h,8,2,0,0,0))+chunk(b'IDAT',zlib.compress(data))+chunk(b'IEND',b'')

BAD = {'text.jpeg':'not an image', 'empty.jpeg':'empty', 'cut.jpeg':'breaks off', 'pixel.png':'1x1', 'deep.png':'8 bits',
       'cmyk.jpeg':'CMYK', 'bomb.png':'megapixels', 'bigger.png':'megapixels'}

@pytest.fixture(scope='session')
def bad(scans, tmp_path_factory):
    "A folder of images that no one can use"
    d = tmp_path_factory.mktemp('bad')
    (d/'text.jpeg').write_text('<html>404</html>'); (d/'empty.jpeg').touch()
    (d/'cut.jpeg').write_bytes(scans[0].read_bytes()[:9000])
    (d/'pixel.png').write_bytes(png(1, 1, bytes(4)))
    Image.fromarray(np.full((64,64), 999, np.uint16)).save(d/'deep.png')
    Image.new('CMYK', (64,64)).save(d/'cmyk.jpeg')
    (d/'bomb.png').write_bytes(png(9000, 9000)); (d/'bigger.png').write_bytes(png(40000, 40000))
    assert names(d)==set(BAD)
    return d

# ---- usage ------------------------------------------------------------------------------------------------------

VERBS = 'datasets download phantom audit train evaluate report predict explain benchmark trial compare demo'.split()

HEAVY = 'cv2 fastai matplotlib numpy pandas scipy sklearn timm torch'.split()

def imported(env, argv):
    "What the command imports until its end, in a real process"
    told = subprocess.run(real(env)+argv, env=env|dict(PYTHONPROFILEIMPORTTIME='1'), capture_output=True, text=True).stderr
    return [o.split('|')[-1].strip() for o in told.splitlines() if o.startswith('import time:')]

@pytest.mark.parametrize('argv', [['--help'], ['train','--help'], ['compare','--help'], ['--version']], ids=' '.join)
def test_help_imports_nothing_heavy(env, argv):
    "In a real process, since this is about its start; `tests/benchmarks/startup.py` has the seconds"
    r = subprocess.run(real(env)+argv, env=env, capture_output=True, text=True)
    assert r.returncode==0 and not r.stderr and r.stdout, r
    seen = imported(env, argv)
    assert 'fundus_fastai.cli' in seen and not [o for o in seen if o.split('.')[0] in HEAVY] and len(seen)<400, seen

@pytest.mark.parametrize('verb', 'predict explain evaluate benchmark export page app quiz lesions'.split())
def test_a_run_that_is_none_is_refused_before_anything_heavy(env, fundus, verb):
    "Who mistypes a folder waits for no torch; the process itself is asked once"
    argv = [verb,'x.png','--run','nowhere'] if verb=='lesions' else [verb,'nowhere',*['x.png']*(verb in ('predict','explain'))]
    fundus(*argv).refused('nowhere holds no finished model')
    if verb in ('predict','lesions'): assert not [o for o in imported(env, argv) if o.split('.')[0] in HEAVY]

@pytest.mark.parametrize('argv', [['lesions','{}/0.png'], ['atlas','photographs','--data','{}/t.csv','--permutations','20','--width','48'],
                                  ['biomarkers','{}/t.csv']], ids=lambda o: o[0])
def test_anatomy_without_a_run_waits_for_no_fastai(env, argv, tmp_path):
    "Which takes five seconds, and is there for a run and its maps"
    from fundus_fastai.phantom.fundus import phantom_fundus
    for k in range(24): Image.fromarray(phantom_fundus(seed=5, patient=k, size=160).image).save(tmp_path/f'{k}.png')
    rows = [dict(path=f'{k}.png', patient=f'p{k}', sex='FM'[k%2], age=40+k, eye='L', split='train') for k in range(24)]
    pd.DataFrame(rows).to_csv(tmp_path/'t.csv', index=False)
    seen = imported(env, [o.format(tmp_path) for o in argv]+['--out',str(tmp_path/'out')])
    assert list((tmp_path/'out').glob('*.csv')) and 'torch' in seen and 'fastai' not in seen and 'timm' not in seen

@newest
@pytest.mark.parametrize('verb', VERBS)
def test_help(fundus, verb):
    r = fundus(verb, '--help').ok()
    assert r.out.startswith(f'usage: fundus {verb}') and '--debug' in r.out and 'Research use only' in r.out
    assert not r.err

@newest
@pytest.mark.parametrize('verb', VERBS)
def test_every_option_has_its_sentence(verb):
    from fundus_fastai import commands, options
    assert not [k for k,o in options.told(getattr(commands, verb)).items() if not o.docment]

@newest
def test_earlier_names(fundus, tmp_path):
    "`trial` is `benchmark`, and `--fit probe` is `--fit readout`"
    a,b = (' '.join(fundus(o,'--help').ok().out.split()) for o in ('benchmark','trial'))
    assert a.replace('fundus benchmark','fundus trial')==b
    fundus('train','oct','--fit','probe','--balance','loss','--out',tmp_path/'r').refused('--balance loss is for --fit tune')
    fundus('train','oct','--fit','prove','--out',tmp_path/'r').refused('there are: auto, tune, readout')

@newest
@pytest.mark.parametrize('argv,said', [('trian oct','did you mean train?'), ('train oct --epocs 3','there is no option --epocs; did you mean --epochs'),
                                       ('check --data eyes.csv','there is no --data here: DATA is named without it'),
                                       ('check Eye Clinic',"'Clinic' is one word too many: a name with spaces in it stands in quotes")])
def test_what_was_meant_is_asked(fundus, argv, said):
    "argparse said `unrecognized arguments: --epocs 3`, below all options of the program and none of the verb"
    r = fundus(*argv.split())
    assert r.status==2 and said in r.err and len(r.err.splitlines())==2 and '--help lists all' in r.err

@newest
@pytest.mark.parametrize('argv', [[], ['trian'], ['train'], ['predict','run'], ['train','oct','--epochs','many'],
                                  ['train','oct','--no-such-flag'], ['explain','run','x.png','--window','8.5']], ids=' '.join)
def test_wrong_usage(fundus, argv):
    r = fundus(*argv)
    assert r.status==2 and r.err.startswith('usage: ') and not r.out and 'Traceback' not in r.err, r

@newest
def test_what_we_warn_of_is_said_and_what_libraries_do_is_not(capsys):
    with warnings.catch_warnings():
        hear_warnings()
        warnings.warn('half of the map was never asked', EyeWarning)
        warnings.warn('torch has something to say')
    assert capsys.readouterr().err=='half of the map was never asked\n'

def test_the_package_is_a_program(env):
    "As `accelerate launch -m fundus_fastai` wants it"
    said = subprocess.run([sys.executable, '-m', 'fundus_fastai', '--version'], env=env, capture_output=True, text=True)
    assert (said.returncode, said.stdout.strip())==(0, fundus_fastai.__version__)

def test_version(fundus): assert fundus('--version').ok().out.strip()==fundus_fastai.__version__

def test_datasets(fundus):
    first = [o.split()[0] for o in fundus('datasets').ok().out.splitlines() if o.strip()]
    assert {'kermany2018','folder','csv'} <= set(first), first
    out = fundus('datasets').ok().out
    for o in ('kaggle', 'license', 'paultimothymooney/kermany2018', 'by application to UK Biobank'): assert o in out

def test_phantom_without_a_folder(fundus, fundus_home_dir):
    r = fundus('phantom','kermany2018','--patients',8).ok()
    to = fundus_home_dir/'phantom-kermany2018'
    assert r.out.strip()==str(to) and (to/'PROVENANCE.json').exists()

def test_download_needs_credentials(fundus):
    fundus('download','kermany2018').refused('credentials','kaggle.com')
    fundus('download','kermany').refused('did you mean kermany2018')

def test_phantom(fundus, tmp_path):
    to = tmp_path/'p'
    r = fundus('phantom','kermany2018','--to',to,'--patients',8,'--seed',2).ok()
    assert r.out.strip()==str(to)
    assert {'OCT2017','truth','truth.csv','PROVENANCE.json'} <= names(to)
    before = digest(to)
    fundus('phantom','kermany2018','--to',to,'--patients',8,'--seed',2).ok()
    fundus('phantom','kermany2018','--to',to,'--patients',9,'--seed',2).refused(to)
    fundus('phantom','kermany','--to',tmp_path/'q').refused('did you mean kermany2018')
    fundus('phantom','csv','--to',tmp_path/'q').refused('no phantoms of csv')
    assert digest(to)==before and names(tmp_path)=={'p'}

# ---- train ------------------------------------------------------------------------------------------------------

def check_metrics(folder, source='phantom'):
    "The contract of metrics.json and predictions.csv, and that scikit-learn finds the same numbers in the latter"
    m = json.loads((folder/'metrics.json').read_text())
    p = pd.read_csv(folder/'predictions.csv', dtype={'patient':str, 'target':str})
    classes = sorted(c[2:] for c in p if c.startswith('p_'))
    assert list(p)==['path','patient','eye','target',*(f'p_{c}' for c in classes)]
    assert (m['task'],m['source'],m['n_images'],m['n_patients']) == ('oct',source,len(p),p.patient.nunique())
    keys = ['accuracy','balanced_accuracy','auc','average_precision',*(f'{k}_{c}' for c in classes for k in ('sensitivity','specificity'))]
    assert set(m['metrics'])>=set(keys)|{'brier','ece'}
    for k,o in m['metrics'].items():
        if k=='temperature': assert .05 <= o['value'] <= 20; continue
        assert set(o)=={'value','low','high','method'} and o['method']
        if o['low'] is not None: assert 0 <= o['low'] <= o['value']+1e-9 and o['value'] <= o['high']+1e-9 <= 1+2e-9
    prob = p[[f'p_{c}' for c in classes]].to_numpy()
    assert np.allclose(prob.sum(1), 1, atol=1e-4)
    y,guess = p.target.to_numpy(),np.array(classes)[prob.argmax(1)]
    seen = [c for c in classes if 0 < (y==c).sum() < len(y)]
    ill = [c for c in classes if c not in ('normal','0')] # of two classes the first of these is positive
    own = lambda f: [f(y==c, prob[:,classes.index(c)]) for c in (ill[:1] if len(classes)==2 else seen)]
    mine = dict(accuracy=accuracy_score(y, guess), balanced_accuracy=balanced_accuracy_score(y, guess),
                auc=np.mean(own(roc_auc_score)), average_precision=np.mean(own(average_precision_score)))
    for c in seen:
        mine |= {f'sensitivity_{c}':recall_score(y==c, guess==c), f'specificity_{c}':recall_score(y!=c, guess!=c)}
    for k,v in mine.items(): assert m['metrics'][k]['value']==pytest.approx(v, abs=1e-6), k
    return m,p

@newest
def test_run_folder(trained):
    run,r = trained
    assert names(run)==RUN_FILES
    m,p = check_metrics(run)
    assert (m['arch'],m['split'])==('resnet10t','test')
    split = pd.read_csv(run/'split.csv', dtype=str)
    assert list(split.columns[:4])==['path','patient','eye','split']
    sides = split.groupby('split').patient.agg(set)
    assert set(sides.index)=={'train','valid','test'} and not (sides.train & sides.valid or sides.train & sides.test or sides.valid & sides.test)
    assert set(p.path)==set(split.path[split.split=='test'])
    h = pd.read_csv(run/'history.csv')
    assert len(h)==2 and {'epoch','train_loss','valid_loss','accuracy'} <= set(h)
    c = json.loads((run/'config.json').read_text())
    assert c['format']==1 and c['source']=='phantom' and c['classes']==['CNV','DME','DRUSEN','NORMAL'] and c['size']==64
    assert c['sha256']==hashlib.sha256((run/'model.safetensors').read_bytes()).hexdigest()
    assert not re.search(rb'/tmp/|/root/|/home/', (run/'config.json').read_bytes())
    html = (run/'report.html').read_text()
    assert 'PHANTOM' in html and html.count('data:image/') >= 4 and not re.search(r'(src|href)="(https?:)?//[^"]*\.(js|css|png)', html)
    assert 'phantom' in (run/'README.md').read_text().lower()

@newest
def test_says_phantom_and_results(trained):
    run,r = trained
    assert 'PHANTOM DATA' in r.err and 'PHANTOM DATA' in r.out
    assert str(run/'report.html') in r.out.strip().splitlines()[-1]
    assert 'epoch 2' in r.err

def test_real_name_without_credentials_is_phantom_aloud(fundus, tmp_path):
    r = fundus('train','oct','--data','kermany2018','--patients',24,'--seed',3,*FAST,'--out',tmp_path/'r').ok()
    assert 'PHANTOM DATA' in r.err and 'credentials' in r.err
    assert json.loads((tmp_path/'r'/'metrics.json').read_text())['source']=='phantom'

@newest
def test_class_folders(fundus, scans, tmp_path):
    for o in [o for o in scans if o.parent.name in ('CNV','NORMAL')]:
        (to := tmp_path/'tree'/o.parent.name.lower()).mkdir(parents=True, exist_ok=True)
        shutil.copy(o, to)
    r = fundus('train','oct','--data',tmp_path/'tree',*FAST,'--out',tmp_path/'r').ok()
    assert 'PHANTOM' not in r.err+r.out
    m,p = check_metrics(tmp_path/'r', 'local')
    assert set(p.target)=={'cnv','normal'} and set(p.path.str.split('/').str[0])=={'cnv','normal'}

@newest
def test_csv_text_labels(fundus, table, phantoms, tmp_path):
    t = table.rename(columns={'file':'scan'})
    pd.concat([t, t.head(3)]).to_csv(tmp_path/'t.csv', index=False) # three rows twice
    r = fundus('train','oct','--data',tmp_path/'t.csv','--images',phantoms,'--path-col','scan','--label','dx','--patient','pid',
               *FAST,'--out',tmp_path/'r').ok()
    assert '3 of' in r.err and 'repeat' in r.err
    m,p = check_metrics(tmp_path/'r') # its images are phantoms, wherever the table lies
    assert set(p.patient) <= set(table.pid) and 'patient column' not in r.err

def test_csv_01_labels_without_patients(fundus, local, tmp_path):
    folder,t = local
    t.drop(columns='pid').to_csv(folder/'t.csv', index=False)
    argv = 'train','oct','--data',folder/'t.csv','--label','DME',*FAST,'--out',tmp_path/'r'
    r = fundus(*argv)
    assert 'no patient column' in r.err and 'its own patient' in r.err and not (tmp_path/'r').exists()
    r.refused('--patient COL','--patient none')
    assert 'no patient column' not in fundus(*argv,'--patient','none').ok().err
    m,p = check_metrics(tmp_path/'r', 'local')
    assert set(p.target)=={'0','1'} and m['n_patients']==m['n_images']

@pytest.mark.parametrize('argv,words', {
    'task':   (['octt',*PHANTOM], ['task','did you mean oct']),
    'net':    (['oct',*PHANTOM,'--arch','resnet5O'], ['resnet5O','did you mean resnet50']),
    'data':   (['oct','--data','kermany'], ['kermany','did you mean kermany2018']),
    'folder': (['oct','--data','no/such'], ['no/such','does not exist']),
    'weights':(['oct',*PHANTOM,'--weights','w.npz'], ['w.npz','--weights']),
    'balance':(['oct',*PHANTOM,'--balance','both'], ['both','sample']),
    'split':  (['oct',*PHANTOM,'--split','no.csv'], ['no.csv']),
    'lr':     (['oct',*PHANTOM,'--lr','fast'], ['lr','fast']),
    'leak':   (['oct',*PHANTOM,'--split','published'], ['patients','train','test'])}.values(),
    ids=['task','net','data','folder','weights','balance','split','lr','leak'])
def test_unknown_names(fundus, argv, words, tmp_path):
    task,*more = argv
    fundus('train',task,*FAST,*more,'--out',tmp_path/'r').refused(*words)
    assert not names(tmp_path)

@pytest.mark.parametrize('flag,value', [('epochs',0), ('epochs',-1), ('freeze-epochs',-1), ('bs',0), ('size',0), ('size',-3), ('lr','nan'),
                                        ('lr',-1), ('lr',0), ('workers',-1), ('maps',-1), ('patients',0), ('seed',-1)])
def test_impossible_numbers(fundus, flag, value, tmp_path):
    r = fundus('train','oct',*PHANTOM,*FAST,f'--{flag}',value,'--out',tmp_path/'r').refused(flag.split('-')[0], value)
    assert not r.out and not names(tmp_path)

@pytest.mark.parametrize('change,flags,words', {
    'label':    (lambda t: t, ['--label','dxx'], ['dxx','did you mean dx','--label']),
    'no label': (lambda t: t, [], ['label','--label']),
    'path':     (lambda t: t, ['--label','dx','--path-col','scan'], ['scan','--path-col']),
    'no path':  (lambda t: t.rename(columns={'file':'scan'}), ['--label','dx'], ['--path-col','scan']),
    'patient':  (lambda t: t, ['--label','dx','--patient','pidd'], ['pidd','did you mean pid','--patient']),
    'missing':  (lambda t: t.assign(file=t.file.where(t.index>1, 'gone.jpeg')), ['--label','dx'], ['2 of','gone.jpeg','--images']),
    'contradiction': (lambda t: pd.concat([t, t.head(1).assign(dx='DME')]), ['--label','dx'], ['0.jpeg','DME','CNV']),
    'one class':   (lambda t: t.assign(dx='DME'), ['--label','dx'], ['DME']),
    'one patient': (lambda t: t.assign(pid='p7'), ['--label','dx','--patient','pid'], ['one patient','p7']),
    'two patients':(lambda t: t.assign(pid=np.where(t.index%2, 'a', 'b')), ['--label','dx','--patient','pid'], ['2 patients']),
    'no rows':  (lambda t: t.head(0), ['--label','dx'], ['t.csv','no rows'])}.values(),
    ids=['label','no label','path','no path','patient','missing','contradiction','one class','one patient','two patients','no rows'])
def test_bad_tables(fundus, local, change, flags, words, tmp_path):
    folder,t = local
    change(t).to_csv(folder/'t.csv', index=False)
    fundus('train','oct','--data',folder/'t.csv',*flags,*FAST,'--out',tmp_path/'r').refused(*words)
    assert not (tmp_path/'r').exists()

@pytest.mark.parametrize('content,words', [(b'',['empty']), (b'PK\3\4\0\0',['not a csv']), (b'file,label\na.png,1\nb.png,1,2,3\n',['csv'])],
                         ids=['empty','zip','ragged'])
def test_no_tables(fundus, content, words, tmp_path):
    (tmp_path/'t.csv').write_bytes(content)
    fundus('train','oct','--data',tmp_path/'t.csv',*FAST,'--out',tmp_path/'r').refused('t.csv', *words)
    assert not (tmp_path/'r').exists()

@pytest.mark.parametrize('name', BAD)
def test_train_on_bad_images(fundus, local, bad, name, tmp_path):
    folder,t = local
    shutil.copy(bad/name, folder/name)
    pd.concat([t, t.head(1).assign(file=name)]).to_csv(folder/'t.csv', index=False)
    fundus('train','oct','--data',folder/'t.csv','--label','dx',*FAST,'--out',tmp_path/'r').refused('1 of', name, BAD[name])
    assert not (tmp_path/'r').exists()

def test_existing_run_is_kept(fundus, copy):
    before = digest(copy)
    fundus('train','oct',*PHANTOM,*FAST,'--out',copy).refused(copy,'--force')
    r = fundus('train','oct',*PHANTOM,*FULL,'--out',copy,'--resume').ok()
    assert 'accuracy' in r.out and digest(copy)==before

@pytest.mark.parametrize('more', [['--split','no.csv'], ['--lr','fast'], ['--data','no/such']], ids=lambda o: o[0])
def test_force_waits_until_training_can_begin(fundus, copy, more):
    "A mistake in the new command must not cost the old run"
    before = digest(copy)
    fundus('train','oct',*PHANTOM,*FAST,*more,'--out',copy,'--force').refused()
    assert digest(copy)==before

def same_run(a, b):
    h = [pd.read_csv(o/'history.csv').drop(columns='seconds') for o in (a,b)]
    pd.testing.assert_frame_equal(*h)
    for f in ('predictions.csv','metrics.json','split.csv','model.safetensors'): assert (a/f).read_bytes()==(b/f).read_bytes(), f
    assert names(a)==names(b)==RUN_FILES

@pytest.mark.parametrize('sig', [pytest.param(signal.SIGINT, marks=newest), signal.SIGTERM, signal.SIGKILL], ids=['ctrl-c','term','kill'])
def test_stopped_and_resumed(fundus, run, tmp_path, sig):
    "The run that was stopped ends as the one that was not"
    again = ['train','oct',*PHANTOM,*FULL,'--out',tmp_path/'r']
    r = fundus.stop_at('epoch 1:', sig, *again)
    if sig!=signal.SIGKILL: r.refused('stopped','--resume', status=128+sig)
    else: assert r.status==-9
    assert 'config.json' not in names(tmp_path/'r') and 'checkpoints' in names(tmp_path/'r')
    assert not [o for o in (tmp_path/'r').rglob('*') if o.name.startswith('.') and sig!=signal.SIGKILL]
    fundus(*again).refused('--resume')
    fundus('predict', tmp_path/'r', 'x.png').refused('no finished model')
    fundus(*again,'--resume','--epochs',9).refused('another plan')
    r = fundus(*again,'--resume').ok()
    assert 'epoch 2:' in r.err and 'epoch 1:' not in r.err
    same_run(run, tmp_path/'r')

def test_a_silent_hub_is_noticed_soon(env, tmp_path):
    "A hub that takes the call and says nothing does not hold us up; a real process, its imports included"
    quiet = socket.socket(); quiet.bind(('127.0.0.1',0)); quiet.listen(20)
    e = env | dict(HF_ENDPOINT=f'http://127.0.0.1:{quiet.getsockname()[1]}', NO_PROXY='127.0.0.1')
    o = subprocess.Popen(real(env)+['train','oct','--weights','imagenet','--out',str(tmp_path/'r')], env=e, text=True,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try: err = o.communicate(timeout=150)[1]
    finally: o.kill(); quiet.close()
    Result('train', o.returncode, '', err).refused('resnet50','--weights none','--weights FILE')
    assert not names(tmp_path)

# ---- evaluate ---------------------------------------------------------------------------------------------------

@newest
def test_evaluate_others(fundus, run, tmp_path):
    r = fundus('evaluate',run,*OTHERS,'--maps',1,'--out',tmp_path/'e').ok()
    assert {'metrics.json','predictions.csv','report.html'} <= names(tmp_path/'e')
    m,p = check_metrics(tmp_path/'e')
    assert m['n_patients']==12 and p.patient.str.startswith('500').all()
    assert 'PHANTOM' in r.out and str(tmp_path/'e'/'report.html') in r.out
    before = digest(tmp_path/'e')
    fundus('evaluate',run,*OTHERS,'--maps',0,'--out',tmp_path/'e').refused('--force', tmp_path/'e')
    assert digest(tmp_path/'e')==before

def test_evaluate_same_data_takes_test_patients(fundus, run, tmp_path):
    r = fundus('evaluate',run,*PHANTOM,'--maps',0,'--out',tmp_path/'e').ok()
    assert 'test patients' in r.err
    a,b = (json.loads((o/'metrics.json').read_text()) for o in (run,tmp_path/'e'))
    assert a['metrics']==b['metrics'] and a['n_patients']==b['n_patients']

def csv(table, phantoms, path): table.drop(columns='side').to_csv(path, index=False); return ['--data',path,'--images',phantoms,'--label','dx']

def test_evaluate_refuses_a_leak(fundus, run, table, phantoms, tmp_path):
    known = table[table.side=='train']
    data = csv(known, phantoms, tmp_path/'t.csv')
    fundus('evaluate',run,*data,'--patient','pid','--maps',0,'--out',tmp_path/'e').refused(known.pid.min(),'trained on','--allow-leak')
    assert not (tmp_path/'e').exists()

def test_evaluate_refuses_known_images_of_unknown_patients(fundus, run, table, phantoms, tmp_path):
    "Without a patient column, an image that was trained on is still one"
    own = phantoms/'known.csv'
    try:
        table[table.side=='train'].drop(columns=['side','pid']).to_csv(own, index=False)
        fundus('evaluate',run,'--data',own,'--label','dx','--maps',0,'--out',tmp_path/'e').refused('trained on')
    finally: own.unlink()

def test_evaluate_unknown_labels(fundus, run, table, phantoms, tmp_path):
    new = table[table.side=='test'].assign(dx='ROP')
    data = csv(new, phantoms, tmp_path/'t.csv')
    fundus('evaluate',run,*data,'--patient','pid','--maps',0,'--out',tmp_path/'e').refused('ROP','CNV, DME')
    assert not (tmp_path/'e').exists()
    (tmp_path/'old').mkdir(); (tmp_path/'old'/'metrics.json').write_text('{"n_boot": 9}')
    fundus('evaluate',run,*data,'--patient','pid','--maps',0,'--out',tmp_path/'old','--force').refused('ROP')
    assert names(tmp_path/'old')=={'metrics.json'}

def test_evaluate_never_costs_a_run(fundus, run, copy):
    before = digest(copy)
    fundus('evaluate',run,*OTHERS,'--maps',0,'--out',copy,'--force').refused(copy)
    fundus('evaluate',copy,*OTHERS,'--maps',0,'--out',copy,'--force').refused(copy)
    assert digest(copy)==before

def test_evaluate_bad_images_and_data(fundus, run, bad, scans, tmp_path):
    for c in ('CNV','NORMAL'): (tmp_path/'tree'/c).mkdir(parents=True); shutil.copy(scans[0], tmp_path/'tree'/c)
    shutil.copy(bad/'cut.jpeg', tmp_path/'tree'/'CNV')
    fundus('evaluate',run,'--data',tmp_path/'tree','--out',tmp_path/'e').refused('cut.jpeg','breaks off')
    fundus('evaluate',run,'--data','kermany','--out',tmp_path/'e').refused('did you mean kermany2018')
    assert not (tmp_path/'e').exists()

# ---- predict ----------------------------------------------------------------------------------------------------

@newest
def test_predict(fundus, run, scans, tmp_path):
    Image.open(scans[0]).convert('RGB').save(tmp_path/'color, with comma.png')
    want = [str(scans[0]), str(scans[5]), str(tmp_path/'color, with comma.png')]
    r = fundus('predict',run,*want).ok()
    p = pd.read_csv(io.StringIO(r.out))
    assert list(p)==['path','patient','eye','usable','remark','prediction','p_CNV','p_DME','p_DRUSEN','p_NORMAL','model']
    assert p.path.tolist()==want and p.usable.all() and p.model.nunique()==1
    prob = p.filter(like='p_').to_numpy()
    assert np.allclose(prob.sum(1), 1, atol=1e-4) and (prob>=0).all()
    assert p.prediction.tolist()==[p.filter(like='p_').columns[i][2:] for i in prob.argmax(1)]
    assert 'research use only' in r.err.lower() and 'PHANTOM' in r.err.upper()

@newest
def test_predict_agrees_with_the_run(fundus, run, phantoms):
    old = pd.read_csv(run/'predictions.csv')
    p = pd.read_csv(io.StringIO(fundus('predict',run,*(phantoms/o for o in old.path)).ok().out))
    assert np.allclose(p.filter(like='p_'), old.filter(like='p_'), atol=1e-5)

def test_predict_without_an_answer(fundus, run, scans, tmp_path):
    for o in ('a','b'): Image.new('L', (200,200)).save(tmp_path/f'{o}.png')
    r = fundus('predict',run,scans[0],tmp_path/'a.png',tmp_path/'b.png').ok()
    p = pd.read_csv(io.StringIO(r.out))
    assert p.usable.tolist()==[True,False,False] and p.p_CNV.isna().tolist()==[False,True,True]
    assert '2 images without an answer (column remark)' in r.err # a photograph can be seen, and a net of scans gives it none, too

@newest
def test_predict_folder(fundus, run, scans):
    folder = scans[0].parent
    p = pd.read_csv(io.StringIO(fundus('predict',run,folder).ok().out))
    assert sorted(p.path)==sorted(str(o) for o in folder.glob('*.jpeg'))

def test_predict_leaves_bad_images_out(fundus, run, scans, bad):
    r = fundus('predict',run,*sorted(bad.iterdir()),scans[0],bad/'gone.png').refused(f'{len(BAD)+1} images')
    p = pd.read_csv(io.StringIO(r.out))
    assert len(p)==len(BAD)+2 and p.path[p.usable].tolist()==[str(scans[0])] and p.prediction[~p.usable].isna().all()
    for name,why in {**BAD, 'gone.png':'does not exist'}.items():
        assert [o for o in r.err.splitlines() if name in o and why in o], f"{name} is not named with {why!r}: {r}"

@pytest.mark.parametrize('name', BAD)
def test_predict_one_bad_image(fundus, run, bad, name):
    r = fundus('predict',run,bad/name).refused()
    assert not r.out and name in r.err and BAD[name] in r.err

def test_predict_bad_arguments(fundus, run, scans, tmp_path):
    fundus('predict',tmp_path/'nowhere',scans[0]).refused('nowhere','config.json')
    fundus('predict',run,tmp_path).refused('no images', tmp_path)
    fundus('predict',run,scans[0],'--bs',0).refused('bs')

@pytest.mark.skipif(not Path('/dev/full').exists(), reason='needs /dev/full')
def test_predict_to_a_full_disk(fundus, run, scans): fundus('predict',run,scans[0],out='/dev/full').refused('no space left')

@pytest.mark.parametrize('shut', [(1,),(2,)], ids=str)
def test_what_the_caller_has_shut(tmp_path, shut):
    "`fundus check EYES >&-` was a traceback; with `2>&-` what is said stood among what is told"
    (tmp_path/'eyes.csv').write_text('path,label\n1_a.png,x\n2_b.png,y\n')
    for o in ('1_a','2_b'): Image.new('RGB', (64,64), 'red').save(tmp_path/f'{o}.png')
    call = dict(args=[sys.executable,'-c','from fundus_fastai.cli import main; raise SystemExit(main(["check","eyes.csv"])+main(["check","nowhere.csv"]))'], cwd=tmp_path, capture_output=True)
    whole,cut = subprocess.run(**call),subprocess.run(**call, preexec_fn=lambda: [os.close(o) for o in shut])
    assert whole.returncode==cut.returncode==1 and whole.stdout and b'nowhere' in whole.stderr
    assert (cut.stdout,cut.stderr)==(b'' if 1 in shut else whole.stdout, b'' if 2 in shut else whole.stderr)

# ---- explain ----------------------------------------------------------------------------------------------------

@newest
def test_explain(fundus, run, scans, tmp_path):
    (tmp_path/'b').mkdir(); shutil.copy(scans[3], twin := tmp_path/'b'/scans[0].name) # the same name elsewhere
    r = fundus('explain',run,scans[0],twin,scans[7],'--window',16,'--stride',16,'--out',tmp_path/'m').ok()
    t = pd.read_csv(tmp_path/'m'/'maps.csv')
    assert t.path.tolist()==[str(scans[0]),str(twin),str(scans[7])] and str(tmp_path/'m'/'maps.csv') in r.out
    assert names(tmp_path/'m')=={'maps.csv',*t['map'],*t.overlay} and len(set(t['map']))==3
    assert t['map'][2]==f'{scans[7].stem}_occlusion.npz' and t.overlay[2]==f'{scans[7].stem}_occlusion.png'
    p = pd.read_csv(io.StringIO(fundus('predict',run,*t.path).ok().out))
    assert t.answer.tolist()==p.prediction.tolist()
    for f,png in zip(t['map'], t.overlay):
        with np.load(tmp_path/'m'/f, allow_pickle=False) as z:
            assert {'map','classes','window','stride','fill','baseline'} <= set(z.files)
            assert z['map'].shape==(4,64,64) and z['baseline'].shape==(4,) and np.isfinite(z['map']).all()
            assert z['classes'].tolist()==['CNV','DME','DRUSEN','NORMAL'] and set(z['window'].ravel())==set(z['stride'].ravel())=={16}
        Image.open(tmp_path/'m'/png).verify()
    before = digest(tmp_path/'m')
    fundus('explain',run,scans[0],'--out',tmp_path/'m').refused('--force', tmp_path/'m')
    assert digest(tmp_path/'m')==before
    r = fundus('explain',run,scans[0],scans[7],'--shard','2/2','--window',32,'--stride',32,'--out',tmp_path/'s').ok()
    assert pd.read_csv(tmp_path/'s/2of2/maps.csv').path.tolist()==[str(scans[7])] and str(tmp_path/'s/2of2/maps.csv') in r.out

def test_explain_leaves_bad_images_out(fundus, run, scans, bad, tmp_path):
    r = fundus('explain',run,*sorted(bad.iterdir()),scans[0],'--window',32,'--stride',32,'--out',tmp_path/'m').refused(f'{len(BAD)} images')
    assert pd.read_csv(tmp_path/'m'/'maps.csv').path.tolist()==[str(scans[0])] and len(names(tmp_path/'m'))==3
    for name,why in BAD.items(): assert [o for o in r.err.splitlines() if name in o and why in o], f"{name} is not named: {r}"
    fundus('explain',run,bad,'--out',tmp_path/'none').refused(f'{len(BAD)} of {len(BAD)} images cannot be read')
    assert not (tmp_path/'none').exists()

@pytest.mark.parametrize('flags,words', [(['--window',65],['window','65','64']), (['--window',0],['window']), (['--stride',0],['stride']),
                                         (['--window',-4],['window']), (['--bs',0],['bs']), (['--fill','puce'],['fill','puce']),
                                         (['--fill','nan'],['fill']), (['--method','gradcam'],['method','occlusion'])], ids=lambda o: ' '.join(map(str,o)))
def test_explain_bad_arguments(fundus, run, scans, flags, words, tmp_path):
    fundus('explain',run,scans[0],*flags,'--out',tmp_path/'m').refused(*words)
    assert not (tmp_path/'m').exists() or not names(tmp_path/'m')

# ---- spoiled runs -----------------------------------------------------------------------------------------------

def change(run, **kw):
    c = json.loads((run/'config.json').read_text()) | kw
    (run/'config.json').write_text(json.dumps({k:v for k,v in c.items() if v is not None}))

@pytest.mark.parametrize('kw,words', [(dict(format=4),['format 4','pip install -U']), (dict(format='2'),['format']), (dict(classes=None),['classes']),
    (dict(arch='resnet5O'),['about arch','was changed']), (dict(arch='resnet18'),['about arch','was changed']), (dict(task='sexes'),['sexes']), (dict(classes=['a','b']),['about classes','was changed']),
    (dict(size='big'),['config.json','size']), (dict(normalize={}),['config.json','normalize']), (dict(head=[]),['config.json','head'])],
    ids=lambda o: json.dumps(o) if isinstance(o, dict) else '')
def test_spoiled_config(fundus, copy, scans, kw, words):
    change(copy, **kw)
    assert not fundus('predict',copy,scans[0]).refused(*words).out

@pytest.mark.parametrize('text', ['{"format": 1', '[1]', ''])
def test_config_is_no_json(fundus, copy, scans, text):
    (copy/'config.json').write_text(text)
    fundus('predict',copy,scans[0]).refused('config.json')

@newest
def test_tampered_weights(fundus, copy, scans, tmp_path):
    w = bytearray((copy/'model.safetensors').read_bytes()); w[-9] ^= 1
    (copy/'model.safetensors').write_bytes(w)
    words = ('model.safetensors','sha256')
    assert not fundus('predict',copy,scans[0]).refused(*words).out
    fundus('explain',copy,scans[0],'--out',tmp_path/'m').refused(*words)
    fundus('evaluate',copy,*OTHERS,'--out',tmp_path/'e').refused(*words)
    (copy/'model.safetensors').write_bytes(w[:999])
    fundus('predict',copy,scans[0]).refused(*words)
    change(copy, sha256=hashlib.sha256(w[:999]).hexdigest()) # somebody who changed both
    fundus('predict',copy,scans[0]).refused('weights')
    (copy/'model.safetensors').unlink()
    fundus('predict',copy,scans[0]).refused('model.safetensors','missing')
    assert names(tmp_path)=={'copy'}

@newest
def test_weights_are_never_unpickled(fundus, copy, scans, tmp_path):
    import pickle
    class Evil:
        def __reduce__(self): return (Path.touch, (tmp_path/'has_run',))
    for f in ('w.pth','w.bin'):
        (tmp_path/f).write_bytes(pickle.dumps(Evil()))
        fundus('train','oct',*PHANTOM,*FAST,'--weights',tmp_path/f,'--out',tmp_path/'r').refused(f)
        assert not (tmp_path/'r').exists() # so that the next try is not refused for the wrong reason
    assert not (tmp_path/'has_run').exists()

def test_debug_shows_the_traceback(fundus, tmp_path):
    r = fundus('predict',tmp_path/'nowhere','x.png','--debug')
    assert r.status!=0 and 'Traceback' in r.err and 'ModelError' in r.err

# ---- disks and permissions --------------------------------------------------------------------------------------

def whole(folder):
    "No file of ours is half: no temporary neighbors, and what is there can be read"
    for o in Path(folder).rglob('*'):
        assert not o.name.startswith('.'), o
        if o.suffix=='.json': json.loads(o.read_text())
        if o.suffix=='.csv': assert len(pd.read_csv(o))
        if o.suffix=='.npz': np.load(o)['map']
        if o.suffix=='.png': Image.open(o).verify()
        if o.suffix=='.safetensors':
            from safetensors.numpy import load_file
            load_file(o)

@pytest.mark.parametrize('limit', [1_000, 100_000, 25_000_000], ids=['split','best','last'])
def test_train_where_files_cannot_grow(fundus, phantoms, limit, tmp_path):
    fundus('train','oct',*PHANTOM,*FAST,'--out',tmp_path/'r',file_limit=limit).refused('space', tmp_path/'r')
    whole(tmp_path)

@pytest.mark.parametrize('argv', [['evaluate',*OTHERS,'--maps',0], ['explain','--window',32,'--stride',32]], ids=lambda o: o[0])
def test_where_files_cannot_grow(fundus, run, scans, argv, tmp_path):
    verb,*more = argv
    open_data('kermany2018', source='phantom', patients=OTHERS[3], seed=OTHERS[5]) # drawn before, so that not their files fill the disk
    fundus(verb,run,*(scans[:1] if verb=='explain' else []),*more,'--out',tmp_path/'o',file_limit=700).refused('space', tmp_path/'o')
    whole(tmp_path)

def test_phantoms_where_files_cannot_grow(fundus, tmp_path):
    fundus('phantom','kermany2018','--to',tmp_path/'p','--patients',8,file_limit=9_000).refused('space')
    assert not names(tmp_path)

@pytest.fixture
def small_disk(tmp_path):
    "A disk of 30 MB, where we may make one"
    (d := tmp_path/'disk').mkdir()
    made = os.geteuid()==0 and shutil.which('mount') and not subprocess.run(['mount','-t','tmpfs','-o','size=30m','none',d], capture_output=True).returncode
    if not made: pytest.skip("needs the right to mount a tmpfs")
    try: yield d
    finally: subprocess.run(['umount', d], check=True)

def test_train_on_a_full_disk(fundus, run, small_disk, tmp_path):
    "Nothing half is left, and with room the same command goes on"
    r = fundus('train','oct',*PHANTOM,*FULL,'--out',small_disk/'r').refused('no space left', small_disk)
    whole(small_disk)
    shutil.copytree(small_disk/'r', tmp_path/'r')
    fundus('train','oct',*PHANTOM,*FULL,'--out',tmp_path/'r','--resume').ok()
    same_run(run, tmp_path/'r')

@pytest.fixture
def locked(tmp_path):
    "A folder in which nothing may be written"
    if os.geteuid()==0 and (platform.system()!='Linux' or platform.machine() not in ('x86_64','aarch64')): pytest.skip("root passes by permissions")
    (d := tmp_path/'locked').mkdir(); d.chmod(0o555)
    yield d
    d.chmod(0o755)

def test_folder_that_may_not_be_written(fundus, run, scans, locked):
    for to in (locked, locked/'new'):
        fundus('train','oct',*PHANTOM,*FAST,'--out',to,plain_user=True).refused('permission', locked)
        fundus('explain',run,scans[0],'--window',32,'--out',to,plain_user=True).refused('permission', locked)
        fundus('evaluate',run,*OTHERS,'--maps',0,'--out',to,plain_user=True).refused('permission', locked)
    assert not names(locked)

def test_place_that_is_no_folder(fundus, run, scans, tmp_path):
    (f := tmp_path/'file').write_text('mine')
    for to in (f, f/'sub'):
        fundus('train','oct',*PHANTOM,*FAST,'--out',to).refused(f)
        fundus('explain',run,scans[0],'--window',32,'--out',to).refused(f)
        fundus('evaluate',run,*OTHERS,'--maps',0,'--out',to).refused(f)
    assert f.read_text()=='mine' and names(tmp_path)=={'file'}

def test_what_may_not_be_read(fundus, copy, scans, locked, tmp_path):
    ask = lambda *argv: fundus(*argv, plain_user=True).refused()
    shutil.copy(scans[0], im := tmp_path/'a.jpeg'); im.chmod(0)
    r = ask('predict',copy,im); assert 'a.jpeg' in r.err and 'permission' in r.err.lower()
    (t := tmp_path/'t.csv').write_text('file,label\na.jpeg,1\n'); t.chmod(0)
    r = ask('train','oct','--data',t,*FAST,'--out',tmp_path/'r'); assert 't.csv' in r.sentence and 'permission' in r.sentence.lower()
    for f in ('config.json','model.safetensors'):
        (copy/f).chmod(0)
        r = ask('predict',copy,scans[0]); assert f in r.sentence and 'permission' in r.sentence.lower()
        (copy/f).chmod(0o644)

def test_folders_that_may_not_be_read_are_not_passed_over(fundus, run, scans, locked, tmp_path):
    "A class that silently vanishes from the data would be a lost class"
    for c in ('CNV','DME','NORMAL'):
        (tmp_path/'tree'/c).mkdir(parents=True)
        for o in [o for o in scans if o.parent.name==c][:9]: shutil.copy(o, tmp_path/'tree'/c)
    (tmp_path/'tree'/'DME').chmod(0)
    try:
        r = fundus('train','oct','--data',tmp_path/'tree',*FAST,'--out',tmp_path/'r',plain_user=True).refused('DME','permission')
        r = fundus('predict',run,tmp_path/'tree',plain_user=True)
        assert r.status==1 and 'DME' in r.err, r
    finally: (tmp_path/'tree'/'DME').chmod(0o755)

def test_a_folder_that_nobody_may_write_is_told_with_a_remedy(monkeypatch, capsys):
    "It said 'Permission denied: runs/maps' and no more"
    def barred(): raise PermissionError(13, 'Permission denied', 'runs/maps')
    monkeypatch.setattr('fundus_fastai.commands.datasets', barred)
    assert main(['datasets'])==1
    assert 'Permission denied: runs/maps (name another, or ask its owner' in capsys.readouterr().err
