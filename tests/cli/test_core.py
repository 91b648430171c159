"Files that are whole or absent, folders that are ours, locks, ports: what every command stands on"
import errno, io, os, re, stat, threading
import numpy as np, pytest
from pathlib import Path
from jinja2 import UndefinedError
from PIL import Image
from fundus_fastai.core import (FULL, DataError, by_umask, check_ours, data_home, disown, files_of, forget, fresh_dir, own, read_json, replacing,
                                sweep, whole_dir, whole_file, whole_set, write_json, write_text)
from fundus_fastai.local import as_png, binding, room_templates

@pytest.mark.skipif(os.name!='posix', reason='no rights of this kind')
def test_a_file_is_made_with_its_folders_and_the_rights_of_others(tmp_path):
    "A temporary file is its owner's alone: what it becomes is read by whoever reads the rest"
    before,opened = os.umask(0o027),len(os.listdir('/dev/fd'))
    try:
        f = write_text(tmp_path/'a/b/c.txt', 'x')
        assert stat.S_IMODE(f.stat().st_mode)==0o640 and os.umask(0o027)==0o027
    finally: os.umask(before)
    assert len(os.listdir('/dev/fd'))==opened and [o.name for o in f.parent.iterdir()]==['c.txt']

@pytest.mark.skipif(os.name!='posix', reason='no rights of this kind')
def test_a_folder_is_made_with_the_rights_of_others(tmp_path):
    "Who shuts others out by the umask had shown them the names of all patients' folders"
    before = os.umask(0o077)
    try:
        with whole_dir(tmp_path/'d'): pass
    finally: os.umask(before)
    assert stat.S_IMODE((tmp_path/'d').stat().st_mode)==0o700

@pytest.mark.skipif(not hasattr(os, 'mkfifo'), reason='no pipes here')
def test_a_link_stays_one_and_a_pipe_is_refused(tmp_path):
    (tmp_path/'disk').mkdir()
    real,link = write_text(tmp_path/'disk/t.csv', 'old'),tmp_path/'t.csv'
    link.symlink_to(real)
    write_text(link, 'new')
    assert link.is_symlink() and real.read_text()=='new'
    os.mkfifo(tmp_path/'pipe') # never a real device: a fault here, tried as root, would replace it
    with pytest.raises(DataError, match='pipe is no file that can be replaced'): write_text(tmp_path/'pipe', 'x')

@pytest.mark.skipif(os.name=='nt', reason="modes and pipes of Unix")
def test_what_only_its_owner_could_read_stays_so(tmp_path):
    "A report that was made again was for everybody of the computer to read"
    f = write_text(tmp_path/'report.html', 'old')
    f.chmod(0o600)
    assert write_text(f, 'new').read_text()=='new' and f.stat().st_mode & 0o777==0o600
    f.chmod(0o444)
    write_text(f, 'newer')
    assert f.stat().st_mode & 0o777==0o644

@pytest.mark.skipif(os.name=='nt', reason="modes and pipes of Unix")
def test_nobody_stops_a_writer_by_what_he_puts_beside_the_file(tmp_path):
    "In a folder for all, as /tmp: opening a pipe waited for ever, and a file that may not be removed was an error"
    os.mkfifo(tmp_path/'.t-0a1b2c3d.csv')
    (tmp_path/'.t-0a1b2c3e.csv').touch()
    unlink = Path.unlink
    def may_not(o, missing_ok=False):
        if o.name.endswith('3e.csv'): raise PermissionError(errno.EPERM, 'another has put it there', str(o))
        unlink(o, missing_ok)
    with pytest.MonkeyPatch.context() as m:
        m.setattr(Path, 'unlink', may_not)
        done = threading.Thread(target=write_text, args=(tmp_path/'t.csv','x'), daemon=True)
        done.start()
        done.join(20)
    assert not done.is_alive() and (tmp_path/'t.csv').read_text()=='x'

def test_what_a_living_program_writes_is_not_swept_away_after_a_day(tmp_path):
    "The pictures of an app that had run over a weekend were, when a second app began"
    pytest.importorskip('fcntl')
    d = tmp_path/'.t-0a1b2c3d'
    d.mkdir()
    lock = own(d)
    os.utime(d, (0,0))
    sweep(tmp_path/'t')
    assert d.exists()
    disown(lock)

def test_a_full_disk_names_the_file_and_leaves_the_old_one(tmp_path):
    f = write_text(tmp_path/'t.csv', 'old')
    for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
        with pytest.raises(OSError) as e:
            with whole_file(f) as tmp:
                tmp.write_text('half')
                raise OSError(code, 'whatever')
        assert (e.value.errno,e.value.filename)==(code,str(f)) and ('make room and call again' in str(e.value))==(code in FULL)==(code!=errno.EIO)
    assert f.read_text()=='old' and len([*tmp_path.iterdir()])==1

@pytest.mark.parametrize('e', [RuntimeError('write failed (os error 28)'),
                               OSError('With tag (7FE0,0010) got exception: [Errno 28] No space left on device\nTraceback (most recent call last):')])
def test_a_library_that_tells_of_a_full_disk_in_words(tmp_path, e):
    "pydicom's were a traceback in an error that nobody foresaw, with `predict --dicom-out`"
    with pytest.raises(OSError) as told, whole_file(tmp_path/'a.dcm'): raise e
    assert (told.value.errno,told.value.filename)==(errno.ENOSPC,str(tmp_path/'a.dcm')) and 'Traceback' not in str(told.value)

@pytest.mark.parametrize('name', [None,'other.csv'])
def test_a_folder_on_a_failing_disk_is_named(tmp_path, name):
    "Drawing phantoms on a full disk told of no folder; who has a name of its own keeps it"
    with pytest.raises(OSError) as e, whole_dir(tmp_path/'eyes'):
        raise OSError(errno.ENOSPC, 'No space left on device', *[name]*bool(name))
    assert e.value.filename==(name or str(tmp_path/'eyes')) and not [*tmp_path.iterdir()]

def test_a_set_of_files_is_the_old_or_the_new_one(tmp_path, monkeypatch):
    "In between, what marks it as whole is not there; who could not read it before cannot afterwards"
    names,replace = ('a.csv','b.csv','page.html'),os.replace
    def made(word, *some, stop=None):
        with whole_set(tmp_path, *names) as to:
            for o in some or names: write_text(to/o, word)
            if stop: raise stop
    def there(): return {o.name:o.read_text() for o in tmp_path.iterdir()}
    made('old')
    (tmp_path/'a.csv').chmod(0o600)
    for e in (KeyboardInterrupt(), OSError(errno.ENOSPC, 'full'), DataError('odd'), RuntimeError('x')):
        with pytest.raises(type(e)): made('new', stop=e)
        assert there()==dict.fromkeys(names, 'old')
    for name,left in (('a.csv',{}), ('b.csv',{'a.csv':'new'}), ('page.html',{'a.csv':'new','b.csv':'new'})):
        made('old')
        def killed(a, b):
            if Path(b)==tmp_path/name: raise KeyboardInterrupt
            replace(a, b)
        with monkeypatch.context() as m, pytest.raises(KeyboardInterrupt):
            m.setattr(os, 'replace', killed)
            made('new')
        assert there()==left
    made('old')
    made('new', 'a.csv', 'page.html')
    assert there()=={'a.csv':'new','page.html':'new'}
    if os.name!='nt':
        (tmp_path/'a.csv').chmod(0o600)
        made('new')
        assert [(tmp_path/o).stat().st_mode&0o077 for o in names]==[0,by_umask(0o066),by_umask(0o066)]

@pytest.mark.parametrize('name,told', [(None,''), ('a.csv','a.csv'), ('elsewhere','elsewhere')])
def test_a_full_disk_names_the_file_of_a_set(tmp_path, name, told):
    with pytest.raises(OSError) as e, whole_set(tmp_path, 'a.csv') as to:
        raise OSError(errno.ENOSPC, 'full', *[str(to/name if name=='a.csv' else name)]*bool(name))
    assert Path(e.value.filename)==(Path(told) if told=='elsewhere' else tmp_path/told) and not [*tmp_path.iterdir()]

def test_a_folder_that_another_made_meanwhile(tmp_path):
    "Well where it is the same, told where it is not, or where nothing tells"
    def both(mine, others):
        out = tmp_path/'net'
        with whole_dir(out) as tmp:
            for d,notes in ((tmp,mine),(out,others)):
                d.mkdir(exist_ok=True)
                for k,v in notes.items(): (d/k).write_text(v)
    both(dict(SHA256SUMS='1', x='mine'), dict(SHA256SUMS='1', x='theirs'))
    assert (tmp_path/'net/x').read_text()=='theirs'
    for mine,others in ((dict(SHA256SUMS='1'),dict(SHA256SUMS='2')), (dict(x='1'),dict(x='1')), (dict(SHA256SUMS='1'),dict(x='1'))):
        for o in (tmp_path/'net').iterdir(): o.unlink()
        with pytest.raises(OSError): both(mine, others)
    assert [o.name for o in tmp_path.iterdir()]==['net']

def test_a_lock_that_a_child_has_too_is_given_back(tmp_path):
    pytest.importorskip('fcntl')
    lock = own(tmp_path)
    childs = os.dup(lock) # as after a fork
    disown(lock)
    again = own(tmp_path, taken='taken')
    assert again!='taken' and own(tmp_path, taken='taken')=='taken' and own(tmp_path/'nowhere', taken='taken') is None
    for o in (childs,again): os.close(o)
    disown(None) # where nothing could be locked

def test_folders_that_are_not_ours_are_named(tmp_path, monkeypatch):
    write_text(tmp_path/'f', 'x')
    with pytest.raises(DataError, match='f is a file: name a folder'): fresh_dir(tmp_path/'f', force=True)
    signs = dict(a='ours', b='ours', c='')
    for name,text,fine in (('a','ours: 1',1), ('a','theirs',0), ('a','',1), ('c','anything',0)):
        (tmp_path/'d').mkdir(exist_ok=True)
        (tmp_path/'d'/name).write_text(text)
        if fine: assert check_ours(tmp_path/'d', signs)==tmp_path/'d'
        else:
            with pytest.raises(DataError, match=f'd holds {name}, which this program has not written'): check_ours(tmp_path/'d', signs)
        forget(tmp_path/'d', name)
    with pytest.raises(DataError, match='gone.json does not exist'): read_json(tmp_path/'gone.json')
    monkeypatch.setenv('FUNDUS_DATA', '~nobody_of_that_name/x')
    with pytest.raises(DataError, match='FUNDUS_DATA=~nobody_of_that_name/x: there is no such home'): data_home()

def test_pictures_that_a_table_names_no_more_go_with_it(tmp_path):
    "Whatever capitals they are written in; what lies elsewhere, and what no table named, stays"
    (tmp_path/'out').mkdir()
    t = tmp_path/'out/t.csv'
    def table(*names): return write_text(t, 'map\n'+'\n'.join(names)+'\n')
    for o in ('A.png','b.png','c.png','../far.png','a.json','b.json'): (tmp_path/'out'/o).write_text('x')
    table('A.png', 'b.png', '../far.png', 'lost.png')
    assert set(files_of(t, 'map'))=={'a.png','b.png'}
    with replacing(t, 'map', beside=lambda o: [o.with_suffix('.json')]): table('A.png')
    assert {o.name for o in (tmp_path/'out').iterdir()}=={'A.png','c.png','a.json','t.csv'} and (tmp_path/'far.png').exists()
    assert write_json(tmp_path/'x.json', dict(a=float('nan'), b={1})) and read_json(tmp_path/'x.json')==dict(a=None, b=[1])

# --- what each local page owes

@pytest.mark.parametrize('e,why', [(OSError(errno.EADDRINUSE, 'x'), 'it is in use'), (PermissionError(errno.EACCES, 'Permission denied'), 'Permission denied'),
                                   (OverflowError(), 'the last is 65535')])
def test_what_is_wrong_with_a_port(e, why):
    with pytest.raises(DataError, match=re.escape(f'port 80 cannot be used ({why}): name another with `port`')):
        with binding(80): raise e

def test_what_is_put_into_a_page_is_escaped(tmp_path):
    t = room_templates('app').from_string('<p>{{ name }}</p>')
    assert t.render(name='<b>"&') == '<p>&lt;b&gt;&#34;&amp;</p>'
    with pytest.raises(UndefinedError): t.render()

def test_a_picture_of_a_page_is_its_pixels_and_nothing_else():
    im = np.tile(np.arange(256, dtype=np.uint8), (64,1))
    large,small = as_png(im),as_png(im, small=True)
    for o in (large,small): assert np.array_equal(np.asarray(Image.open(io.BytesIO(o))), im) and not Image.open(io.BytesIO(o)).info
    assert len(small)<len(large)
