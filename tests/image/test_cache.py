"Pictures decoded once: nothing torn by a kill, nothing stale, nothing twice, and a sentence where it cannot be"
import errno, os, pickle, re, shutil, subprocess, sys
from pathlib import Path
import numpy as np, pytest
from fundus_fastai.core import DataError
from fundus_fastai.image import cache as C
from fundus_fastai.image.hospital import frames_of
from fundus_fastai.image.read import read_image
from dicoms import write

SHAPE = (4,6)
ABOUT = dict(recipe='', size=4)

def cook(path):
    "A file holds a number; its picture is of that gray"
    return np.full(SHAPE, int(Path(path).read_text()), np.uint8)

@pytest.fixture
def files(tmp_path):
    (tmp_path/'in').mkdir()
    for i in range(60): (tmp_path/'in'/f'{i}.txt').write_text(str(i))
    return [str(tmp_path/'in'/f'{i}.txt') for i in range(60)]

def opened(tmp_path, files, cook=cook, about=ABOUT): return C.open_cache(tmp_path/'c', files, cook, shape=SHAPE, about=about)

def counting(into):
    def f(path): into.append(Path(path).name); return cook(path)
    return f

def truth(cache, files): return np.array_equal(cache.take(cache.places(files)), np.stack(list(map(cook, files))))

def test_a_row_is_what_the_file_gives(tmp_path, files):
    cache = opened(tmp_path, files)
    assert truth(cache, files) and truth(cache, files[::-3]) and len(cache)==60
    assert cache.places([*files,'other.txt']) is None and cache.places([np.zeros(SHAPE)]) is None
    assert truth(pickle.loads(pickle.dumps(cache)), files) # to another process goes the name
    assert len(pickle.dumps(cache))<1000

def test_a_file_that_changed_since_is_not_answered_as_it_was(tmp_path, files):
    cache = opened(tmp_path, files)
    Path(files[7]).write_text('200')
    assert cache.places(files) is None and cache.places(files[:7]) is not None
    assert truth(opened(tmp_path, files), files)

def test_frames_of_a_volume(tmp_path):
    "Each has its own row, and a volume that holds another is made anew"
    def scan(v): return np.stack([np.full((40,40), k*v, np.uint8) for k in range(1, 4)])
    f = tmp_path/'v.dcm'
    def filled(v):
        names = frames_of(write(f, scan(v)))
        cache = C.open_cache(tmp_path/'c', names, lambda p: read_image(p)[:4,:6], shape=SHAPE, about=ABOUT)
        return cache.take(cache.places(names))[:,0,0].tolist()
    assert filled(20)==[20,40,60]==filled(20)
    os.utime(write(f, scan(30)), (5,5))
    assert filled(30)==[30,60,90]

def test_only_what_changed_is_decoded(tmp_path, files, capsys):
    opened(tmp_path, files)
    Path(files[7]).write_text('200') # other content
    os.utime(files[8], (5,5))        # the same
    for o in files[9:12]: os.remove(o)
    new = str(tmp_path/'in'/'new.txt')
    Path(new).write_text('201')
    copy = shutil.copy(files[3], tmp_path/'in'/'copy.txt')
    left = [o for o in files if os.path.exists(o)]+[new, str(copy)]
    asked = []
    cache = opened(tmp_path, left, counting(asked))
    checks = len(asked)-2
    assert sorted(asked[checks:])==['7.txt','new.txt'] and checks<=4
    assert truth(cache, left)
    asked.clear()
    assert truth(opened(tmp_path, left, counting(asked)), left) and len(asked)<=4 # nothing but the checks

def test_shards_are_arrays_anyone_can_open(tmp_path, files, monkeypatch):
    monkeypatch.setattr(C, 'shard_bytes', 10*24)
    assert truth(opened(tmp_path, files), files)
    found = sorted((tmp_path/'c').glob('*.npy'))
    assert [np.load(o).shape for o in found]==[(10,*SHAPE)]*6
    assert (np.load(found[1])[:,0,0]==range(10,20)).all()

# --- kills

KILLED = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = [sys.argv[2]]
import image.test_cache as T
from fundus_fastai.image import cache as C
C.shard_bytes,C.lot_bytes = 10*24,1
def at(k, f):
    def g(*args, **kwargs):
        global left
        left -= 1
        if left==0:
            if k=='torn': args[0].index.write('["/x/torn.txt",1'); args[0].index.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        return f(*args, **kwargs)
    return g
tmp = Path(sys.argv[1])
files = [str(tmp/'in'/f'{i}.txt') for i in range(60)]
C.alone(tmp) # so that all is imported before
held = 0
for left in range(1, 160, 8):
    if pid := os.fork(): os.waitpid(pid, 0)
    else:
        C.ShardWriter.put,C.ShardWriter.tell = at('put', C.ShardWriter.put),at('torn', C.ShardWriter.tell)
        C.ShardWriter.begin,cook = at('begin', C.ShardWriter.begin),at('cook', T.cook)
        try: T.opened(tmp, files, cook)
        finally: os._exit(0)
    cache = C.PixelCache(tmp/'c', T.SHAPE)
    there = [o for o in files if cache.places([o]) is not None]
    assert not there or T.truth(cache, there)
    assert len(there)>=held
    held = len(there)
    print(left, held)
assert T.truth(T.opened(tmp, files), files)
"""

@pytest.mark.skipif(not hasattr(os, 'fork'), reason='no fork here')
def test_twenty_kills(tmp_path, files):
    "Whenever it is killed: each row that is told is whole, none that was told is lost, and the next call goes on"
    here = Path(__file__).parent.parent
    r = subprocess.run([sys.executable, '-c', KILLED, str(tmp_path), str(here)], capture_output=True, text=True)
    assert r.returncode==0, r.stderr[-2000:]
    rows = [list(map(int, o.split())) for o in r.stdout.splitlines()]
    assert len(rows)==20 and rows[0][1]==0 and len({b for _,b in rows})>3 and rows[-1][1]==60

def test_a_half_shard_is_made_anew(tmp_path, files, monkeypatch, capsys):
    monkeypatch.setattr(C, 'shard_bytes', 10*24)
    opened(tmp_path, files)
    second = sorted((tmp_path/'c').glob('*.npy'))[1]
    os.truncate(second, 200)
    asked = []
    assert truth(opened(tmp_path, files, counting(asked)), files)
    assert 'cut off' in capsys.readouterr().err and {f'{o}.txt' for o in range(10,20)}<={*asked} and len(asked)<=14

def test_pixels_that_never_reached_the_disk(tmp_path, files, capsys):
    opened(tmp_path, files)
    shard, = (tmp_path/'c').glob('*.npy')
    a = np.load(shard, mmap_mode='r+')
    a[0] = 255
    a.flush()
    assert truth(opened(tmp_path, files), files) and 'damaged' in capsys.readouterr().err

@pytest.mark.parametrize('text', [b'', b'\n', b'[1,2\n', b'{"a":1}\n', b'\xff\xfe\n', b'[]\n', b'["/x",1]\n', b'7\n'])
def test_an_index_that_is_none(tmp_path, files, text):
    opened(tmp_path, files[:30])
    (tmp_path/'c'/'00000.jsonl').write_bytes(text)
    assert truth(opened(tmp_path, files), files)

def test_a_torn_line_costs_nothing_else(tmp_path, files):
    opened(tmp_path, files[:30])
    with open(tmp_path/'c'/'00000.jsonl', 'ab') as f: f.write(b'["/x/torn.txt",1')
    asked = []
    assert truth(opened(tmp_path, files, counting(asked)), files) and len(asked)<=34

# --- two at once

TWO = """
import sys, time
sys.path[:0] = [sys.argv[2]]
from pathlib import Path
import image.test_cache as T
from fundus_fastai.image import cache as C
C.lot_bytes = 1
if sys.argv[3]=='unlocked': C.own = lambda *args, **kwargs: None
tmp = Path(sys.argv[1])
files = [str(tmp/'in'/f'{i}.txt') for i in range(60)]
(tmp/f'ready{sys.argv[4]}').touch()
while len([*tmp.glob('ready*')])<2: time.sleep(.01)
asked = []
def cook(path): time.sleep(.02); asked.append(path); return T.cook(path)
assert T.truth(T.opened(tmp, files, cook), files)
print(len(asked))
"""

@pytest.mark.parametrize('how', ['locked','unlocked'])
def test_two_builders_at_once(tmp_path, files, how):
    "One waits for the other; where the disk knows no locks both work, and harm nothing"
    if how=='locked': pytest.importorskip('fcntl')
    words = [sys.executable, '-c', TWO, str(tmp_path), str(Path(__file__).parent.parent), how]
    two = [subprocess.Popen([*words,str(k)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for k in (0,1)]
    told = [o.communicate(timeout=120) for o in two]
    assert [o.returncode for o in two]==[0,0], told
    if how=='locked': assert sorted(int(o) for o,_ in told)==[4,60] and any('waiting' in e for _,e in told)
    assert truth(opened(tmp_path, files), files)

def test_another_begins_while_we_look(tmp_path, files, monkeypatch):
    "Two that start in the same moment: the folder fills between our two looks at it"
    occupied = C.occupied
    def late(folder):
        monkeypatch.setattr(C, 'occupied', occupied)
        opened(tmp_path, files[:9])
        return occupied(folder)
    monkeypatch.setattr(C, 'occupied', late)
    assert truth(opened(tmp_path, files), files)

# --- what cannot be

def test_no_room_is_said_first(tmp_path, files, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(C.shutil, 'disk_usage', lambda o: usage._replace(free=1000))
    asked = []
    with pytest.raises(DataError, match='free some'): opened(tmp_path, files, counting(asked))
    assert not asked

def test_a_size_that_would_fit(tmp_path, monkeypatch):
    monkeypatch.setattr(C.shutil, 'disk_usage', lambda o: shutil._ntuple_diskusage(10**11, 0, 10**10))
    with pytest.raises(DataError, match='size=') as e: C.demand_room(tmp_path, 90_000, (512,512,3))
    fits = int(re.search(r'size=(\d+)', str(e.value))[1])
    assert 90_000*fits*fits*3<10**10<90_000*(fits+64)**2*3

def test_the_disk_fills_up(tmp_path, files, monkeypatch):
    monkeypatch.setattr(C, 'lot_bytes', 1)
    tell,left = C.ShardWriter.tell,[3]
    def full(self, lines):
        left[0] -= 1
        if left[0]<0: raise OSError(errno.ENOSPC, 'No space left on device')
        return tell(self, lines)
    with monkeypatch.context() as m:
        m.setattr(C.ShardWriter, 'tell', full)
        with pytest.raises(DataError, match='are kept'): opened(tmp_path, files)
    asked = []
    assert truth(opened(tmp_path, files, counting(asked)), files)
    assert len(asked)==60-3*8+4

def test_another_version_or_no_cache(tmp_path, files):
    opened(tmp_path, files)
    before = {o:o.read_bytes() for o in (tmp_path/'c').iterdir()}
    for about in (dict(ABOUT, recipe='color'), dict(ABOUT, size=8)):
        with pytest.raises(DataError, match='another version'): opened(tmp_path, files, about=about)
    assert {o:o.read_bytes() for o in (tmp_path/'c').iterdir()}==before
    with pytest.raises(DataError, match='no cache'):
        C.open_cache(tmp_path/'in', files, cook, shape=SHAPE, about=ABOUT)

def test_another_decoder(tmp_path, files, capsys):
    "What other code makes of the same files is never mixed with what was there"
    old = opened(tmp_path, files)
    def brighter(path): return cook(path)+1
    cache = opened(tmp_path, files, brighter)
    assert np.array_equal(cache.take(cache.places(files)), np.stack(list(map(brighter, files))))
    assert 'made anew' in capsys.readouterr().err
    assert truth(old, files) # who reads goes on with what was there

def test_what_is_removed_is_not_held(tmp_path, files, monkeypatch):
    "Windows removes no file that is mapped"
    maps = Path('/proc/self/maps')
    if not maps.exists(): pytest.skip("nothing here tells what is mapped")
    def unlink(self, *args, real=Path.unlink, **kwargs):
        if str(self) in maps.read_text(): raise PermissionError(13, 'Permission denied', str(self))
        real(self, *args, **kwargs)
    opened(tmp_path, files)
    monkeypatch.setattr(Path, 'unlink', unlink)
    def brighter(path): return cook(path)+1
    cache = opened(tmp_path, files, brighter)
    assert np.array_equal(cache.take(cache.places(files)), np.stack(list(map(brighter, files))))

def test_a_file_that_is_missing_is_named(tmp_path, files):
    def reader(path):
        if not os.path.exists(path): raise DataError(f'{path} does not exist')
        return cook(path)
    with pytest.raises(DataError, match='gone.txt does not exist'): opened(tmp_path, [*files, str(tmp_path/'gone.txt')], reader)

def test_folders_differ(tmp_path):
    a,b = [str(tmp_path/'x'/'1.png')],[str(tmp_path/'y'/'1.png')]
    names = {C.cache_folder(p, dict(ABOUT, **more)) for p in (a,b) for more in ({}, dict(recipe='color'), dict(size=8))}
    assert len(names)==6 and C.cache_folder(a, ABOUT)==C.cache_folder([*a, str(tmp_path/'x'/'2.png')], ABOUT)

# --- size

LARGE = """
import resource, sys, time
from fundus_fastai.image import cache as C
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
t = time.process_time()
cache = C.PixelCache(sys.argv[1], (4,6))
print(time.process_time()-t, len(cache), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss-before)/1024)
"""

def test_ninety_thousand_rows(tmp_path):
    "Opened within a second, in 200 MB, on a slow machine"
    with C.ShardWriter(tmp_path, SHAPE, 90_000) as w:
        w.tell([[f'/data/kermany/OCT2017/train/CNV/CNV-{i}-1.jpeg',60_000+i,1790000000000000000+i,f'{i:064x}',
                 *w.put(np.zeros(SHAPE, np.uint8))] for i in range(90_000)])
    r = subprocess.run([sys.executable, '-c', LARGE, str(tmp_path)], capture_output=True, text=True)
    sec,n,mb = map(float, r.stdout.split())
    print(sec, mb)
    assert n==90_000 and sec<1 and mb<200
