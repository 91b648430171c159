"The real Kaggle client against a stub of Kaggle: see `stub_kaggle.py`"
import base64, errno, hashlib, io, json, os, random, signal, subprocess, sys, time, types, warnings, zipfile
from pathlib import Path
from types import SimpleNamespace
import pytest
from stub_kaggle import KaggleStub, make_zip, symlink
from fundus_fastai.core import DownloadError, MissingPackage
from fundus_fastai.data import kaggle as K
from fundus_fastai.data.kaggle import download, BadArchive, HostileArchive

noise = random.Random(0).randbytes
TREE = {f'OCT2017 /train/CNV/CNV-{i}-1.jpeg': noise(150_000) for i in range(6)}
ZIP = make_zip({**TREE, '__MACOSX/OCT2017 /._x':b'x', 'OCT2017 /.DS_Store':b'x', 'OCT2017 /test/':b''})
OTHER = make_zip({k:noise(150_000) for k in TREE})
TOKEN = 'KGAT_stub'

def card(kind='dataset', **kwargs):
    slug = 'diabetic-retinopathy-detection' if kind=='competition' else 'ada/eyes'
    return SimpleNamespace(**{'name':'eyes', 'kaggle':slug, 'kind':kind, 'gb':.001, 'gb_unpacked':.001, 'license':'CC BY 4.0',
                              'url':'https://example.org/eyes', **kwargs})

@pytest.fixture(autouse=True)
def nobody(tmp_path, monkeypatch):
    "An empty home without credentials or proxies"
    for k in list(os.environ):
        if k.startswith(('KAGGLE','XDG')) or k.lower().endswith('_proxy'): monkeypatch.delenv(k)
    home = tmp_path/'home'; home.mkdir()
    for k in ('HOME','USERPROFILE'): monkeypatch.setenv(k, str(home))
    monkeypatch.setenv('KAGGLE_CONFIG_DIR', str(home/'.kaggle'))
    monkeypatch.setenv('FUNDUS_HOME', str(tmp_path/'data'))
    monkeypatch.setenv('NO_PROXY', '*')
    return home

@pytest.fixture
def token(monkeypatch): monkeypatch.setenv('KAGGLE_API_TOKEN', TOKEN)

@pytest.fixture
def stub():
    with KaggleStub(ZIP) as k, k.as_kaggle(): yield k

@pytest.fixture
def to(tmp_path): return tmp_path/'data'/'eyes'

def get(c=None, **kwargs): return download(c or card(), **{'pause':.01, 'tries':4, **kwargs})

def tree(p): return {str(o.relative_to(p).as_posix()):o.read_bytes() for o in p.rglob('*') if o.is_file() and o.name!='PROVENANCE.json'}

def left(to): return sorted(o.name for o in to.parent.iterdir()) if to.parent.exists() else []

def whole(to):
    assert tree(to)==TREE
    assert left(to)==['eyes'], "zip, note and hidden folder are gone"

# ---- the good road

def test_download(stub, token, to, capsys):
    assert get()==to
    whole(to)
    o = json.loads((to/'PROVENANCE.json').read_text())
    assert o=={'source':'kaggle', 'name':'eyes', 'kaggle':'ada/eyes', 'kind':'dataset', 'version':2, 'license':'CC-BY-NC-SA-4.0',
               'url':'https://example.org/eyes', 'sha256':hashlib.sha256(ZIP).hexdigest(), 'bytes':sum(map(len,TREE.values())),
               'files':len(TREE), 'downloaded':o['downloaded']}
    assert o['downloaded'][:3]=='202' and len(o['downloaded'])==10
    out,err = capsys.readouterr()
    assert out=='' and 'CC-BY-NC-SA-4.0 (our card: CC BY 4.0)' in err and 'GB unpacked' in err
    assert {'ownerSlug':'ada', 'datasetSlug':'eyes'}.items() <= stub.bodies[-1].items()
    assert stub.auth[-1]==f'Bearer {TOKEN}'

def test_second_call_does_nothing(stub, token, to, monkeypatch):
    get()
    before = {o:o.stat().st_mtime_ns for o in to.rglob('*')}
    n = len(stub.log); monkeypatch.delenv('KAGGLE_API_TOKEN')
    assert get()==to
    assert len(stub.log)==n and before=={o:o.stat().st_mtime_ns for o in to.rglob('*')}

def test_force_replaces(stub, token, to):
    get(); stub.change(OTHER); get()
    whole(to)
    get(force=True)
    assert tree(to)!=TREE and set(tree(to))==set(TREE) and left(to)==['eyes']

def test_failed_force_keeps_the_old(stub, token, to):
    get(); stub.change(b'rubbish')
    with pytest.raises(BadArchive): get(force=True)
    whole(to)

def test_competition(stub, token, to):
    get(card('competition'))
    whole(to)
    o = json.loads((to/'PROVENANCE.json').read_text())
    assert (o['kind'],o['license'],o['version'])==('competition','CC BY 4.0',None)
    assert ('api','DownloadDataFiles') in stub.log and stub.bodies[-1]['competitionName']=='diabetic-retinopathy-detection'

def test_to(stub, token, tmp_path):
    assert get(out=tmp_path/'x'/'y')==tmp_path/'x'/'y'
    assert tree(tmp_path/'x'/'y')==TREE

def test_card_speaks_where_metadata_is_refused(stub, token, to):
    stub.about = 403
    assert json.loads((get()/'PROVENANCE.json').read_text())['license']=='CC BY 4.0'

def test_other_files_are_not_replaced(stub, token, to):
    to.mkdir(parents=True); (to/'mine.txt').write_text('x')
    for force in (False,True):
        with pytest.raises(DownloadError, match='other files'): get(force=force)
    assert stub.log==[] and (to/'mine.txt').exists()

def test_import_does_not_authenticate():
    code = "import sys, fundus_fastai.data.kaggle; sys.exit(any(o.split('.')[0] in ('kaggle','kagglesdk','requests') for o in sys.modules))"
    assert subprocess.run([sys.executable, '-c', code]).returncode==0

def test_without_the_package(token, monkeypatch):
    monkeypatch.setitem(sys.modules, 'kaggle', None)
    with pytest.raises(MissingPackage, match='pip install kaggle'): get()

# ---- credentials

def test_no_credentials(stub, to):
    with pytest.raises(DownloadError, match='kaggle.com/settings/api') as e: get()
    for o in ('~/.kaggle/access_token', 'KAGGLE_API_TOKEN', 'kaggle.json', 'Colab'): assert o in str(e.value)
    assert stub.log==[] and left(to)==[]

def basic(user, key): return 'Basic '+base64.b64encode(f'{user}:{key}'.encode()).decode()

def env_token(home, mp): mp.setenv('KAGGLE_API_TOKEN', TOKEN)
def file_token(home, mp): (home/'.kaggle').mkdir(); (home/'.kaggle/access_token').write_text(TOKEN+'\n')
def env_pair(home, mp): mp.setenv('KAGGLE_USERNAME','ada'); mp.setenv('KAGGLE_KEY','k')
def json_pair(home, mp): (home/'.kaggle').mkdir(); (home/'.kaggle/kaggle.json').write_text('{"username":"ada","key":"k"}')
def json_elsewhere(home, mp):
    (home/'cfg').mkdir(); (home/'cfg/kaggle.json').write_text('{"username":"ada","key":"k"}')
    mp.setenv('KAGGLE_CONFIG_DIR', str(home/'cfg'))
def colab(**secrets):
    def f(home, mp):
        google,mod = types.ModuleType('google'),types.ModuleType('google.colab')
        def get(k):
            if k not in secrets: raise RuntimeError('SecretNotFoundError')
            return secrets[k]
        mod.userdata = SimpleNamespace(get=get); google.colab = mod
        mp.setitem(sys.modules, 'google.colab', mod)
    return f

@pytest.mark.parametrize('put,auth', [(env_token, f'Bearer {TOKEN}'), (file_token, f'Bearer {TOKEN}'), (env_pair, basic('ada','k')),
    (json_pair, basic('ada','k')), (json_elsewhere, basic('ada','k')), (colab(KAGGLE_API_TOKEN=TOKEN), f'Bearer {TOKEN}'),
    (colab(KAGGLE_USERNAME='ada', KAGGLE_KEY='k'), basic('ada','k'))])
def test_credentials(stub, to, nobody, monkeypatch, put, auth):
    put(nobody, monkeypatch)
    before = dict(os.environ)
    get()
    assert stub.auth[-1]==auth and dict(os.environ)==before

def test_half_credentials_are_none(nobody, monkeypatch):
    monkeypatch.setenv('KAGGLE_USERNAME', 'ada')
    (nobody/'.kaggle').mkdir(); (nobody/'.kaggle/kaggle.json').write_text('{"username":"ada"')
    (nobody/'.kaggle/access_token').write_text('\n')
    (nobody/'cfg').mkdir(); (nobody/'cfg/kaggle.json').write_text('{"username":"ada","key":null}')
    monkeypatch.setenv('KAGGLE_CONFIG_DIR', str(nobody/'cfg'))
    colab(KAGGLE_KEY='k')(nobody, monkeypatch)
    with pytest.raises(DownloadError, match='no Kaggle credentials'): get()

def test_dead_token(stub, monkeypatch, capsys):
    monkeypatch.setenv('KAGGLE_API_TOKEN', 'KGAT_old')  # the client itself prints a page and leaves the interpreter
    with pytest.raises(DownloadError, match='401 from Kaggle.*KAGGLE_API_TOKEN.*settings/api'): get()
    stub.introspect = 401
    with pytest.raises(DownloadError, match='401 from Kaggle'): get()
    assert capsys.readouterr().out==''

def test_dead_token_in_jupyter(stub, monkeypatch):
    import builtins
    monkeypatch.setenv('KAGGLE_API_TOKEN', 'KGAT_old')
    monkeypatch.delattr(builtins, 'exit')  # as IPython does
    with pytest.raises(DownloadError, match='401 from Kaggle'): get()

# ---- refusals

@pytest.mark.parametrize('kind,status,words', [
    ('dataset', 401, 'settings/api'), ('competition', 401, 'settings/api'),
    ('dataset', 403, 'https://www.kaggle.com/datasets/ada/eyes while signed in'),
    ('competition', 403, 'accept the rules at https://www.kaggle.com/c/diabetic-retinopathy-detection/rules and verify your phone'),
    ('dataset', 404, "no data set 'ada/eyes'"), ('competition', 404, "no competition 'diabetic-retinopathy-detection'"),
    ('dataset', 418, '418 from Kaggle')])
def test_refusals(stub, token, to, kind, status, words):
    stub.api = [status]*9
    with pytest.raises(DownloadError) as e: get(card(kind))
    assert words in str(e.value) and str(e.value).startswith(f'{status} from Kaggle')
    assert ('rules' in str(e.value)) == (kind=='competition' and status==403)
    assert sum(o=='api' and m.startswith('Download') for o,m in stub.log)==1 and left(to)==[]

def test_429_waits_as_asked(stub, token, to):
    stub.api = [(429, {'Retry-After':'0.6'})]
    t = time.time(); get()
    assert time.time()-t >= .6
    whole(to)

def test_429_for_too_long(stub, token):
    stub.api = [(429, {'Retry-After':'3600'})]*9
    t = time.time()
    with pytest.raises(DownloadError, match='429 from Kaggle: too many requests: wait 3600 seconds'): get()
    assert time.time()-t < 5

def test_500_passes(stub, token, to):
    stub.api = [503, 502]; get(); whole(to)

def test_500_stays(stub, token):
    stub.api = [500]*9
    with pytest.raises(DownloadError, match='500 from Kaggle: the trouble is on their side'): get()

@pytest.mark.parametrize('kind', ['dataset','competition'])
@pytest.mark.parametrize('put', [env_token, env_pair])
def test_no_network(nobody, monkeypatch, to, put, kind):
    put(nobody, monkeypatch)
    with KaggleStub(ZIP) as k: pass  # nobody listens any more
    with k.as_kaggle():
        t = time.time()
        with pytest.raises(DownloadError, match='cannot reach Kaggle.*check the network'): get(card(kind), pause=5)
        assert time.time()-t < 4

def test_error_in_the_body_of_a_200(stub, token):
    stub.api = [b'{"code":404, "message":"Not found"}']*9
    with pytest.raises(DownloadError, match="404 from Kaggle: there is no data set 'ada/eyes'"): get()

@pytest.mark.parametrize('body', [b'{"code":', b'{"code":"x"}'])
def test_unreadable_api(stub, token, to, body):
    stub.api = [body]*9
    with pytest.raises(DownloadError, match="answer cannot be read.*login page"): get()
    assert left(to)==[]

def test_html_for_an_archive(stub, token, to):
    stub.api = [b'<html>Please sign in</html>']*9
    with pytest.raises(BadArchive, match='Please sign'): get()
    assert left(to)==[]

def test_readable_key_is_told(stub, nobody, monkeypatch, capsys):
    json_pair(nobody, monkeypatch)
    import kaggle
    f = nobody/'.kaggle/kaggle.json'; f.chmod(0o644)
    monkeypatch.setattr(kaggle.api, 'config', str(f))
    get()
    out,err = capsys.readouterr()
    assert out=='' and (os.name=='nt' or err.count('readable by other')==1)

# ---- broken lines

def test_drop_resumes(stub, token, to):
    stub.store = [('drop',300_000), ('serve',0), ('drop',300_000)]
    get(); whole(to)
    first,plain,second = stub.ranges[:3]
    assert first is None and plain is None and 200_000 < second <= 300_000
    assert stub.ranges[4] > second, "each piece begins where the last one ended"

def test_drop_for_good_then_resume_by_a_new_call(stub, token, to):
    stub.store = [('drop',500_000)] + [('drop',0)]*20
    with pytest.raises(DownloadError, match='connection broke'): get()
    assert not to.exists() and '.eyes.zip' in left(to)
    had = (to.parent/'.eyes.zip').stat().st_size
    stub.store = []; stub.log.clear()
    get(); whole(to)
    assert stub.ranges==[None, had] and had > 400_000

def test_stalled_line(stub, token, to, monkeypatch):
    "The store promises everything, sends a part, and then nothing, without hanging up"
    monkeypatch.setattr(K, 'TIMEOUT', (2,.4))
    stub.store = [('stall',400_000)]
    t = time.time(); get()
    assert time.time()-t < 2.5
    whole(to); assert any(stub.ranges)

def test_a_line_that_drops_often(stub, token, to):
    "More drops than `tries`, each after some progress"
    stub.store = [('drop',150_000)] + [o for _ in range(12) for o in (('serve',0), ('drop',80_000))]
    get(tries=3); whole(to)
    assert len([o for o in stub.ranges if o]) > 6

def test_link_expires(stub, token, to):
    "A 403 of the store is no 403 of Kaggle, and does not cost what has come"
    stub.store = [('drop',500_000), ('status',403), ('serve',0), ('status',403)]
    get(); whole(to)
    assert [o for o in stub.ranges if o]==[stub.ranges[-1]]*2 and stub.links==4

def test_a_link_that_never_works(stub, token):
    stub.store = [('status',403)]*20
    with pytest.raises(DownloadError, match='refused its link') as e: get()
    assert 'rules' not in str(e.value)

def test_server_without_ranges(stub, token, to):
    stub.no_ranges = True; stub.store = [('drop',500_000)]
    get(); whole(to)

def test_server_without_identity(stub, token, to):
    "Without ETag and date nothing proves that the partial file belongs to this one"
    stub.etag = stub.modified = None; stub.store = [('drop',500_000)]
    get(); whole(to)
    assert stub.ranges==[None,None]

def test_server_with_date_only(stub, token, to):
    stub.etag = None; stub.store = [('drop',500_000)]
    get(); whole(to)
    assert stub.ranges[-1]

def test_wrong_range_is_not_appended(stub, token, to):
    stub.range = 'bytes 7-9/10'; stub.store = [('drop',500_000)]
    with pytest.raises(DownloadError, match='refused to continue'): get(tries=2)
    assert (to.parent/'.eyes.zip').read_bytes() == ZIP[:(to.parent/'.eyes.zip').stat().st_size]

def test_wrong_bytes_are_found_by_checksum(stub, token, to):
    "A server that continues with other bytes than it should"
    stub.lie = lambda body,start: bytes(len(body)-start-60_000)+body[-60_000:]
    stub.store = [('drop',500_000)]
    get(); whole(to)
    assert stub.ranges[-1] is None, "fetched again, from the start"

KILLED = """
import sys, time; sys.path[:0] = {path!r}
from types import SimpleNamespace
from kagglesdk.kaggle_env import KaggleEnv, _env_to_endpoint
_env_to_endpoint[KaggleEnv.PROD] = {url!r}
from fundus_fastai.data.kaggle import download
try: download(SimpleNamespace(**{card!r}))
except KeyboardInterrupt: sys.exit(42)
"""

@pytest.mark.skipif(os.name=='nt', reason='signals')
@pytest.mark.parametrize('sig', [signal.SIGKILL, signal.SIGINT])
def test_killed(stub, token, to, sig):
    "Another process is shot in the middle; this one goes on from there"
    stub.store = [('slow',40_000)]
    here = str(Path(K.__file__).parents[2])
    own = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL) # a job in the background inherits one that ignores it
    p = subprocess.Popen([sys.executable, '-c', KILLED.format(path=[here], url=stub.url, card=vars(card()))], stderr=subprocess.DEVNULL,
                         preexec_fn=own)
    part = to.parent/'.eyes.zip'
    for _ in range(400):
        if part.exists() and part.stat().st_size > 200_000: break
        time.sleep(.02)
    p.send_signal(sig); assert p.wait(10) == (42 if sig==signal.SIGINT else -sig)
    had = part.stat().st_size
    assert 200_000 < had < len(ZIP) and not to.exists()
    stub.log.clear(); get(); whole(to)
    assert stub.ranges==[None, had]

# ---- a file that changes

def test_changed_between_calls(stub, token, to):
    stub.store = [('drop',500_000)] + [('drop',0)]*20
    with pytest.raises(DownloadError): get()
    stub.store = []; stub.change(OTHER); stub.log.clear()
    get()
    with zipfile.ZipFile(io.BytesIO(OTHER)) as z: assert tree(to)=={o:z.read(o) for o in z.namelist()}
    assert stub.ranges==[None] and left(to)==['eyes']

def test_changed_with_the_same_size(stub, token, to):
    same = make_zip({**{k:noise(150_000) for k in TREE}, '__MACOSX/OCT2017 /._x':b'x', 'OCT2017 /.DS_Store':b'x', 'OCT2017 /test/':b''})
    assert len(same)==len(ZIP)
    stub.store = [('drop',500_000), ('change',same)]
    get()
    assert set(tree(to))==set(TREE) and not set(tree(to).values()) & set(TREE.values())

def test_changed_between_question_and_continuation(stub, token, to):
    "`If-Range` meets a new version: the answer is all of it"
    stub.store = [('drop',500_000), ('serve',0), ('change',OTHER)]
    get()
    assert set(tree(to))==set(TREE) and not set(tree(to).values()) & set(TREE.values())

def test_partial_file_of_another_card(stub, token, to):
    stub.store = [('drop',500_000)] + [('drop',0)]*20
    with pytest.raises(DownloadError): get()
    stub.store = []; stub.log.clear()
    get(card('competition')); whole(to)
    assert stub.ranges==[None]

# ---- not a zip, or not a good one

@pytest.mark.parametrize('body', [b'OK', b'', b'<html>Please sign in</html>', make_zip({})], ids=['two bytes','nothing','html','empty zip'])
def test_garbage_for_good(stub, token, to, body):
    stub.store = [('garbage',body)]*9
    with pytest.raises(BadArchive, match='not a whole zip|holds no files') as e: get()
    if body[:5]==b'<html': assert 'Please' in str(e.value)
    assert left(to)==[] and stub.ranges==[None,None], "fetched twice, and nothing is left"

@pytest.mark.parametrize('deed', [('garbage',b'OK'), ('truncate',500_000), ('truncate',len(ZIP)-5), ('garbage',ZIP[:400_000]+b'X'+ZIP[400_001:])],
                         ids=['garbage','cut','no end','one byte'])
def test_damage_is_fetched_again(stub, token, to, deed):
    stub.store = [deed]
    get(); whole(to)
    assert len(stub.ranges)==2

def climb(): return {'a.txt':b'x', '../../evil.txt':b'x'}
HOSTILE = {'dots':climb(), 'inner dots':{'a/b/../../../evil.txt':b'x'}, 'absolute':{'/ABS/evil.txt':b'x'}, 'drive':{'C:/evil.txt':b'x'},
           'backslash':{'..\\evil.txt':b'x'}, 'link':{symlink('a'):'/etc', 'a/evil.txt':b'x'}, 'bomb':{'zeros':bytes(80<<20)}}

@pytest.mark.parametrize('what', HOSTILE)
def test_hostile(stub, token, to, tmp_path, what):
    bad = {k.replace('/ABS', tmp_path.as_posix()) if isinstance(k,str) else k:v for k,v in HOSTILE[what].items()}
    stub.change(make_zip(bad if what=='bomb' else {**TREE, **bad}))
    with pytest.raises(HostileArchive, match='nothing was unpacked'): get()
    assert left(to)==[] and stub.ranges==[None] and not list(tmp_path.rglob('*evil*'))

def test_declared_size_lies(tmp_path):
    "A member that says it is small and is not"
    b = bytearray(make_zip({'a':bytes(100_000)}))
    i = b.rindex(b'PK\x01\x02'); b[i+24:i+28] = (10).to_bytes(4,'little')
    (tmp_path/'z.zip').write_bytes(b)
    with pytest.raises(BadArchive): K.unpack(tmp_path/'z.zip', tmp_path/'t')
    assert sorted(o.name for o in tmp_path.iterdir())==['home','z.zip']

def test_names_that_collide(tmp_path):
    (tmp_path/'z.zip').write_bytes(make_zip({'a':b'1', 'a/b':b'2'}))
    with pytest.raises(HostileArchive, match='a is there twice, as a file and a folder'): K.unpack(tmp_path/'z.zip', tmp_path/'t')
    assert not (tmp_path/'t').exists()

def twice(*names_and_bytes):
    with warnings.catch_warnings(), zipfile.ZipFile(b := io.BytesIO(), 'w') as z:
        warnings.simplefilter('ignore')
        for k,v in names_and_bytes: z.writestr(k, v)
    return b.getvalue()

@pytest.mark.parametrize('name', ['a/x.jpeg','./a/x.jpeg','a\\x.jpeg'])
def test_a_name_that_is_there_twice(stub, token, to, name):
    "Alike it is unpacked once; with other bytes it is refused, and not fetched again, which helps nobody"
    stub.change(twice(('a/x.jpeg', b'1'), (name, b'1'), ('b.csv', b'2')))
    get()
    assert tree(to)=={'a/x.jpeg':b'1', 'b.csv':b'2'} and stub.ranges==[None]
    K.check_complete(card(), to)
    stub.change(twice(('a/x.jpeg', b'1'), (name, b'9'), ('b.csv', b'2')))
    with pytest.raises(HostileArchive, match='x.jpeg.* is there twice, with different contents'): get(force=True)
    assert tree(to)=={'a/x.jpeg':b'1', 'b.csv':b'2'} and len(stub.ranges)==2

# ---- an archive that outlasts the disk of the pictures

@pytest.fixture
def runtimes(stub, token, tmp_path, monkeypatch):
    "A Drive that lasts, and a function that begins another runtime: an empty disk, and nobody's token but in the first"
    def begin(k, token=False):
        monkeypatch.setenv('FUNDUS_HOME', str(tmp_path/'drive')); monkeypatch.setenv('FUNDUS_DATA', str(tmp_path/f'runtime{k}'))
        if not token: monkeypatch.delenv('KAGGLE_API_TOKEN', raising=False)
        stub.log.clear()
        return tmp_path/f'runtime{k}'/'eyes'
    return begin

def drive(tmp_path): return sorted(o.name for o in (tmp_path/'drive/archives').iterdir())

def test_a_second_runtime_downloads_nothing(stub, runtimes, tmp_path, capsys):
    first = runtimes(1, token=True)
    assert get()==first
    whole(first); assert drive(tmp_path)==['eyes.zip','eyes.zip.json']
    capsys.readouterr()
    second = runtimes(2)
    assert get()==second
    whole(second); assert stub.log==[] and 'nothing is downloaded' in capsys.readouterr().err
    assert (first/'PROVENANCE.json').read_text()==(second/'PROVENANCE.json').read_text()

def test_without_another_disk_no_archive_is_kept(stub, token, to, tmp_path):
    get(); assert not (tmp_path/'data/archives').exists()

def spoil(f): f.write_bytes(f.read_bytes()[:-9]+bytes(9))
def shorten(f): f.write_bytes(f.read_bytes()[:300_000])
def unnote(f): f.with_name('eyes.zip.json').unlink()
def rename(f): f.with_name('eyes.zip.json').write_text('{"kaggle":"ada/others"}')

@pytest.mark.parametrize('harm', [spoil,shorten,unnote,rename])
def test_a_spoiled_archive_is_downloaded_again(stub, runtimes, tmp_path, monkeypatch, harm):
    monkeypatch.setattr(K.time, 'sleep', lambda s: None)
    runtimes(1, token=True); get(); harm(tmp_path/'drive/archives/eyes.zip')
    second = runtimes(2, token=True)
    get(); whole(second); assert len(stub.ranges)==1
    third = runtimes(3)
    get(); whole(third); assert stub.log==[]

def test_a_slow_drive_is_waited_for(stub, runtimes, tmp_path, monkeypatch, capsys):
    waits = []
    monkeypatch.setattr(K.time, 'sleep', waits.append)
    runtimes(1, token=True); get()
    real,fails = K.copy_digest,[OSError(errno.EIO, 'Input/output error'), OSError(errno.ENOTCONN, 'Transport endpoint is not connected')]
    def copy(*args):
        if fails: raise fails.pop(0)
        return real(*args)
    monkeypatch.setattr(K, 'copy_digest', copy)
    second = runtimes(2); get(); err = capsys.readouterr().err
    whole(second); assert waits==[1,2] and stub.log==[] and 'Input/output error' in err and 'not connected' in err

def test_a_file_too_large_for_a_disk_is_not_a_full_disk(tmp_path):
    with pytest.raises(DownloadError, match='too large for the disk at .*FAT32'), K.disk_errors(tmp_path): raise OSError(errno.EFBIG, 'File too large')

def test_a_full_drive_loses_nothing(stub, runtimes, tmp_path, monkeypatch, capsys):
    def full(*args): raise OSError(errno.ENOSPC, 'No space left on device')
    with monkeypatch.context() as m:
        m.setattr(K, 'copy_digest', full)
        first = runtimes(1, token=True); get()
    whole(first); err = capsys.readouterr().err
    assert 'is not kept' in err and 'no room is left' in err and drive(tmp_path)==[]

def test_a_full_runtime_is_told(stub, runtimes, monkeypatch):
    runtimes(1, token=True); get()
    runtimes(2)
    monkeypatch.setattr(K.shutil, 'disk_usage', lambda p: SimpleNamespace(free=500_000))
    with pytest.raises(DownloadError, match='eyes needs .* are free'): get()
    assert stub.log==[]

def test_a_runtime_dropped_while_keeping_leaves_no_half_archive(stub, runtimes, tmp_path, monkeypatch):
    def dropped(part, to, *args):
        Path(to).write_bytes(ZIP[:1000])
        raise KeyboardInterrupt
    with monkeypatch.context() as m:
        m.setattr(K, 'copy_digest', dropped)
        runtimes(1, token=True)
        with pytest.raises(KeyboardInterrupt): get()
    assert drive(tmp_path)==[]
    second = runtimes(2, token=True); get(); whole(second); assert len(stub.ranges)==1

def test_a_token_that_expires_in_the_middle(stub, token, to):
    "Told as such, and what has come is kept"
    stub.api,stub.store = [None,401],[('drop',500_000)]
    with pytest.raises(DownloadError, match='accepted before and are no more.*KAGGLE|401.*KAGGLE_API_TOKEN were accepted before') as e: get()
    assert 'expired' in str(e.value) and 'settings/api' in str(e.value) and left(to)==['.eyes.zip','.eyes.zip.json']
    stub.log.clear(); get(); whole(to)
    assert stub.ranges[-1] and stub.ranges[-1]>=400_000

def test_a_new_secret_outranks_the_environment(stub, to, nobody, monkeypatch):
    "on_drive puts the Secret into the environment; when it has expired, a new one is put into the Secrets"
    monkeypatch.setenv('KAGGLE_API_TOKEN', 'KGAT_old')
    colab(KAGGLE_API_TOKEN=TOKEN)(nobody, monkeypatch)
    get(); whole(to)

# ---- the disk

def test_disk_need_is_checked_first(stub, token, to, monkeypatch):
    monkeypatch.setattr(K.shutil, 'disk_usage', lambda p: SimpleNamespace(free=12e9))
    with pytest.raises(DownloadError, match=r'eyes needs 16.5 GB and 12.0 GB are free.*`out`.*FUNDUS_HOME'): get(card(gb=5.5, gb_unpacked=11))
    assert stub.log==[] and left(to)==[]

def test_partial_file_counts_as_there(stub, token, to, monkeypatch):
    to.parent.mkdir()
    with open(to.parent/'.eyes.zip','wb') as f: f.truncate(5_000_000_000)
    monkeypatch.setattr(K.shutil, 'disk_usage', lambda p: SimpleNamespace(free=12e9))
    get(card(gb=5.5, gb_unpacked=11)); whole(to)

def test_unpacked_size_is_checked(stub, token, to, monkeypatch):
    monkeypatch.setattr(K.shutil, 'disk_usage', lambda p: SimpleNamespace(free=500_000))
    with pytest.raises(DownloadError, match='unpacking'): get(card(gb=0, gb_unpacked=0))
    assert left(to)==['.eyes.zip','.eyes.zip.json'], "the zip is kept: it was paid for"

class Full:
    "A file on a disk that fills up"
    def __init__(self, f, room): self.f,self.room = f,room
    def __enter__(self): return self
    def __exit__(self, *args): self.f.close()
    def write(self, b):
        self.room -= len(b)
        if self.room<0: raise OSError(errno.ENOSPC, 'No space left on device')
        return self.f.write(b)

@pytest.mark.parametrize('mode', ['ab','xb'])
def test_disk_fills(stub, token, to, monkeypatch, mode):
    "While downloading ('ab') or unpacking ('xb')"
    def fill(path, m='r', *args, **kwargs):
        f = open(path, m, *args, **kwargs)
        return Full(f, 100_000) if m==mode else f
    with monkeypatch.context() as m:
        m.setattr(K, 'open', fill, raising=False)
        with pytest.raises(DownloadError, match='no space left.*make room'): get()
    assert left(to)==['.eyes.zip','.eyes.zip.json']
    stub.log.clear(); get(); whole(to)
    if mode=='xb': assert stub.ranges==[None], "asked, but not fetched again"

def test_interrupted_while_unpacking(stub, token, to, monkeypatch):
    with monkeypatch.context() as m:
        def stop(*args): raise KeyboardInterrupt
        m.setattr(K, '_swap', stop)
        with pytest.raises(KeyboardInterrupt): get()
    assert left(to)==['.eyes.zip','.eyes.zip.json']
    (to.parent/'.eyes-unpacking').mkdir(); (to.parent/'.eyes-unpacking/old').write_text('of a kill')
    get(); whole(to)

def test_pictures_are_on_the_disk_before_their_folder_has_its_name(stub, token, to, monkeypatch):
    "A power failure left a folder that was whole by its note, and pictures without a byte; the archive was gone"
    told,replace = [],os.replace
    monkeypatch.setattr(os, 'sync', lambda: told.append('on the disk'), raising=False)
    monkeypatch.setattr(os, 'replace', lambda a, b: told.append(Path(b).name) or replace(a, b))
    get()
    whole(to)
    assert told[-2:]==['on the disk',to.name]

def test_what_was_there_comes_back_where_the_new_cannot_take_its_name(tmp_path, monkeypatch):
    "It stayed under a hidden name, which the next call removes"
    new,out,replace = tmp_path/'new',tmp_path/'eyes',os.replace
    for o in (new,out): o.mkdir(); (o/'a.png').write_text(o.name)
    def fail(a, b):
        if a==new: raise OSError(errno.EIO, 'Input/output error')
        replace(a, b)
    monkeypatch.setattr(os, 'replace', fail)
    with pytest.raises(OSError): K._swap(new, out)
    assert (out/'a.png').read_text()=='eyes' and not (tmp_path/'.eyes-old').exists()

@pytest.mark.skipif(os.name=='nt' or os.geteuid()==0, reason='root may write everywhere')
def test_forbidden_folder(stub, token, tmp_path):
    (tmp_path/'locked').mkdir(mode=0o500)
    with pytest.raises(DownloadError, match='may not write'): get(out=tmp_path/'locked'/'eyes')

def test_a_file_is_in_the_way(stub, token, to):
    to.parent.mkdir(); to.write_text('x')
    with pytest.raises(DownloadError, match='is a file'): get()

# ---- two at once, and what zipfile does not compare

TWICE = KILLED.replace('except KeyboardInterrupt: sys.exit(42)', 'except KeyboardInterrupt: pass')

def test_two_at_once(stub, token, to):
    "Another process downloads the same; this call waits, finds it done, and fetches nothing"
    stub.store = [('slow',40_000)]
    code = TWICE.format(path=[str(Path(K.__file__).parents[2])], url=stub.url, card=vars(card()))
    p = subprocess.Popen([sys.executable, '-c', code], stderr=subprocess.DEVNULL)
    for _ in range(800):
        if (to.parent/'.eyes.zip').exists(): break
        time.sleep(.02)
    get()
    assert p.wait(20)==0 and sum(o=='store' for o,_ in stub.log)==1
    whole(to)

def test_many_threads_at_once(stub, token, to):
    from concurrent.futures import ThreadPoolExecutor
    with ThreadPoolExecutor(4) as pool: assert set(pool.map(lambda _: get(), range(4)))=={to}
    whole(to)
    assert stub.ranges==[None]

def test_files_are_counted_on_the_disk(tmp_path, monkeypatch):
    (tmp_path/'z.zip').write_bytes(ZIP)
    def lose(z, info, path, *, bar, copy=K.copy_member):
        copy(z, info, path, bar=bar)
        if '-3-' in path.name: path.unlink()
    monkeypatch.setattr(K, 'copy_member', lose)
    with pytest.raises(DownloadError, match='5 files of 6'): K.unpack(tmp_path/'z.zip', tmp_path/'t')
    assert sorted(o.name for o in tmp_path.iterdir())==['home','z.zip']

def test_a_swallowed_directory(tmp_path):
    "One bit in the length of the first member's comment, and seven of eight are not listed"
    b = bytearray(make_zip({f'{k}.txt':b'x'*k for k in range(8)}))
    i,end = b.index(b'PK\x01\x02'),b.rindex(b'PK\x05\x06')
    b[i+32:i+34] = (end-i-46-5).to_bytes(2,'little')
    with zipfile.ZipFile(io.BytesIO(b)) as z: assert len(z.namelist())==1
    (tmp_path/'z.zip').write_bytes(b)
    with pytest.raises(BadArchive, match='1 members are listed, and 8'): K.unpack(tmp_path/'z.zip', tmp_path/'t')

def test_a_member_that_is_shorter_than_it_says(tmp_path):
    b = bytearray(make_zip({'a':b'x'*100}, compression=zipfile.ZIP_STORED))
    i = b.rindex(b'PK\x01\x02')
    b[i+24:i+28] = (1_000_000).to_bytes(4,'little')
    (tmp_path/'z.zip').write_bytes(b)
    with pytest.raises(BadArchive): K.unpack(tmp_path/'z.zip', tmp_path/'t')

@pytest.mark.parametrize('name', ['bzip2','lzma','deflate','stored'])
def test_damage_of_every_method_is_damage(tmp_path, name):
    from attack.archives import METHODS
    want,found = noise(3000),0
    good = make_zip({'a':want}, compression=METHODS[name])
    for at in range(30, 200, 7):
        b = bytearray(good); b[at] ^= 255
        (tmp_path/'z.zip').write_bytes(b)
        try: assert (K.unpack(tmp_path/'z.zip', tmp_path/'t')/'a').read_bytes()==want, "a field that matters to nobody, as the date"
        except BadArchive: found += 1
    assert found>18 and {o.name for o in tmp_path.iterdir()} <= {'home','t','z.zip'}

@pytest.mark.parametrize('odd', ['.', 'n'*300, 'a/\x01'+'m'*400], ids=['dot','long','long and odd'])
def test_odd_names_are_damage(stub, token, to, odd):
    stub.store = [('garbage', make_zip({odd:b'x', 'b':b'1'}))]
    get()
    whole(to)

def test_attacked_archives():
    "A sample of `tests/attack/archives.py`"
    from attack.archives import battery, contents, flips, mutations
    good = make_zip(contents())
    counts,wrong = battery([*mutations(40, 5), *list(flips(good))[::150]], good)
    assert not wrong, wrong
    assert counts['healed']>20

@pytest.mark.parametrize('text,words', [('{"username":"ada","key":"k",}', 'is not JSON'), ('{"user":"ada","key":"k"}', 'lacks "username" or "key"'),
                                        ('', 'is empty'), (b'\xff\xfe\x00', 'is no text'), ('[1]', 'lacks')])
def test_a_spoiled_kaggle_json_is_told(nobody, text, words):
    (nobody/'.kaggle').mkdir()
    (nobody/'.kaggle/kaggle.json').write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DownloadError, match='kaggle.json '+words): get()

@pytest.mark.parametrize('code', ['utf-8-sig','utf-16','utf-16-be'])
@pytest.mark.parametrize('file,text,auth', [('access_token', TOKEN, f'Bearer {TOKEN}'), ('kaggle.json', '{"username":"ada","key":"k"}', basic('ada','k'))])
def test_byte_order_marks(stub, nobody, to, code, file, text, auth):
    (nobody/'.kaggle').mkdir()
    mark = '\ufeff' if code=='utf-16-be' else ''
    (nobody/'.kaggle'/file).write_bytes((mark+text).encode(code))
    get()
    assert stub.auth[-1]==auth

def test_a_token_with_a_mark_in_the_environment(stub, to, monkeypatch):
    monkeypatch.setenv('KAGGLE_API_TOKEN', '\ufeff'+TOKEN+'\n')
    get()
    assert stub.auth[-1]==f'Bearer {TOKEN}'

# ---- what the environment tells

def test_a_pair_of_the_environment_is_cleaned(nobody, monkeypatch):
    monkeypatch.setenv('KAGGLE_USERNAME', ' ada'); monkeypatch.setenv('KAGGLE_KEY', 'abc\n')
    assert K.credentials()==('KAGGLE_USERNAME and KAGGLE_KEY', {'KAGGLE_USERNAME':'ada', 'KAGGLE_KEY':'abc'})

@pytest.mark.parametrize('env, words', [(dict(KAGGLE_USERNAME='ada'), 'KAGGLE_USERNAME is set, and KAGGLE_KEY is not'), (dict(KAGGLE_API_TOKEN='KGAT_\u2192'), 'KAGGLE_API_TOKEN holds characters'),
                                        (dict(KAGGLE_USERNAME='ada', KAGGLE_KEY='schl\u00fcssel'), 'KAGGLE_KEY holds characters'), (dict(KAGGLE_API_TOKEN='  '), 'no Kaggle credentials')])
def test_half_or_spoiled_credentials_are_named(nobody, monkeypatch, env, words):
    for k,v in env.items(): monkeypatch.setenv(k, v)
    with pytest.raises(DownloadError, match=words): K.credentials()

@pytest.mark.parametrize('token', ['  ', 'KGAT_\u2192', '{"username":"ada","key":"k"}'])
def test_a_spoiled_token_does_not_stand_in_the_way(stub, to, nobody, monkeypatch, token):
    monkeypatch.setenv('KAGGLE_API_TOKEN', token)
    json_pair(nobody, monkeypatch)
    get()
    assert stub.auth[-1]==basic('ada','k')

@pytest.mark.parametrize('text,words', [('{"username":"ada","key":"<your key>"}', 'kaggle.json holds more than a name and a key'), ('{"username":"ada","key":" "}', 'kaggle.json lacks "username" or "key"')])
def test_no_key_in_kaggle_json(nobody, text, words):
    (nobody/'.kaggle').mkdir(); (nobody/'.kaggle/kaggle.json').write_text(text)
    with pytest.raises(DownloadError, match=words): K.credentials()

def test_quotes_round_a_token(stub, to, monkeypatch):
    monkeypatch.setenv('KAGGLE_API_TOKEN', f'"{TOKEN}"')
    get()
    assert stub.auth[-1]==f'Bearer {TOKEN}'

def test_json_in_the_place_of_a_token_is_told(nobody):
    with pytest.MonkeyPatch.context() as mp:
        mp.setenv('KAGGLE_API_TOKEN', '{"username":"ada","key":"k"}')
        with pytest.raises(DownloadError, match='KAGGLE_API_TOKEN holds JSON: save it as kaggle.json'): K.credentials()
    (nobody/'.kaggle').mkdir()
    (nobody/'.kaggle/access_token').write_text('{"username":"ada","key":"k"}')
    with pytest.raises(DownloadError, match='access_token holds JSON, not a token: save it as kaggle.json'): K.credentials()

def test_a_download_whose_files_are_gone_is_not_called_there(stub, token, to, capsys):
    get(); whole(to)
    next(o for o in to.rglob('*') if o.is_file() and o.name!='PROVENANCE.json').unlink()
    with pytest.raises(DownloadError, match='lacks 1 of .* files: `force=True` fetches'): get()
    get(force=True); whole(to)
