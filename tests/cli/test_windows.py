"What Windows does otherwise, done to this system: nothing here was seen on a Windows"
import errno, io, os, socket
from pathlib import Path
import pandas as pd, pytest
from fundus_fastai.anatomy.atlas import same_files
from fundus_fastai.app import reader
from fundus_fastai.cli import _at_home, _files_like, _sentence, main
from fundus_fastai.core import DataError, common_folder, say, seen_from, write_text
from fundus_fastai.data.load import open_data
from fundus_fastai.data.read import read_csv
from fundus_fastai.data.splits import read_split, save_split
from fundus_fastai.image.cache import cache_folder
from fundus_fastai.local import LocalServer, bound
from fundus_fastai.run.check import check_data, check_named
from fundus_fastai.run.folder import typed_command
from fundus_fastai.vision.answers import RowFile, list_digest
from made import eyes

def test_the_disk_is_told_of_a_file_by_who_may_write_it(tmp_path, monkeypatch):
    "`fsync` of a file that is open for reading fails there: nothing at all could be written"
    fcntl = pytest.importorskip('fcntl')
    def fsync(fd, real=os.fsync):
        if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE==os.O_RDONLY: raise OSError(errno.EBADF, 'Bad file descriptor')
        real(fd)
    monkeypatch.setattr(os, 'fsync', fsync)
    assert write_text(tmp_path/'a.txt', 'x').read_text()=='x'

def test_rows_end_as_everywhere(monkeypatch):
    "pandas ends them by \\r\\n there, and a stream makes another \\r of the \\n: an empty row after each"
    monkeypatch.setattr(os, 'linesep', '\r\n')
    to = io.StringIO()
    RowFile(to).add(pd.DataFrame(dict(path=['a.png','b.png'])))
    assert to.getvalue()=='path\na.png\nb.png\n'

@pytest.fixture
def drives(tmp_path, monkeypatch):
    "Folders C and D, between which there is no way"
    def drive(o): return os.path.relpath(o, tmp_path, real=True).split(os.sep)[0]
    def relpath(path, start=os.curdir, real=False, was=os.path.relpath):
        if not real and drive(path)!=drive(start): raise ValueError("path is on mount 'D:', start on mount 'C:'")
        return was(path, start)
    def commonpath(paths, was=os.path.commonpath):
        if len({drive(o) for o in paths})>1: raise ValueError("Paths don't have the same drive")
        return was(paths)
    monkeypatch.setattr(os.path, 'relpath', relpath)
    monkeypatch.setattr(os.path, 'commonpath', commonpath)
    for o in 'CD': (tmp_path/o).mkdir()
    return tmp_path/'C',tmp_path/'D'

def test_a_table_and_its_pictures_on_two_drives(drives):
    "It was an error that we did not foresee"
    C,D = drives
    eyes(D, [f'{c}{i}.png' for c in 'ab' for i in range(6)])
    pd.DataFrame(dict(path=[str(o) for o in sorted(D.iterdir())], label=['a']*6+['b']*6)).to_csv(C/'t.csv', index=False)
    df = read_csv(C/'t.csv', patient='none')
    assert df.path.nunique()==12 and df.patient.tolist()==df.path.tolist() # each its own, by the only name there is
    df['split'] = ['train','train','valid','valid','test','test']*2
    split = save_split(df, C/'split.csv')
    assert read_split(split, df).split.tolist()==df.split.tolist()
    assert check_data(C/'t.csv').save(D/'clean').exists()
    assert pd.read_csv(D/'clean/cleaned.csv').path.tolist()==sorted(f'../{o.name}' for o in D.glob('*.png'))
    assert check_data(C/'t.csv').save(C/'clean').exists()
    assert pd.read_csv(C/'clean/cleaned.csv').path.tolist()==df.path.tolist()

def test_pictures_on_two_drives(drives):
    C,D = drives
    eyes(C, ['1.png','2.png'])
    eyes(D, ['3.png','4.png'])
    files = [str(o) for d in drives for o in sorted(d.iterdir())]
    assert common_folder(files)=='' and seen_from(files[0], D)==files[0]
    assert cache_folder(files, dict(size=64), C)!=cache_folder(files[:2], dict(size=64), C)
    assert len({list_digest(files), list_digest(files[:2]), list_digest(files[2:])})==3

def test_patterns_are_spread_by_us(tmp_path, monkeypatch, capsys):
    "No shell does it there, and `fundus gather *.csv` looked for one file that is called *.csv"
    monkeypatch.chdir(tmp_path)
    for o in ('b.csv','a.csv','c[1].csv','d.txt','in[2]/e.csv'): write_text(o, 'x')
    assert _files_like(['*.csv'])==['a.csv','b.csv','c[1].csv'] and _files_like(['?.csv','d.txt'])==['a.csv','b.csv','d.txt']
    assert _files_like(['c[1].csv'])==['c[1].csv'] and _files_like(['in[2]/*.csv'])==[os.path.join('in[2]', 'e.csv')]
    assert main(['gather','?.csv','--out','all.csv'])==1 and 'a.csv' in capsys.readouterr().err
    assert _files_like(['*.png'])==['*.png'] # is told as a name that is no file
    for o in ('*.png','x.png'): write_text(o, 'x') # the first can be here, not there
    assert _files_like(['*.png'])==['*.png']

def test_paths_with_the_separator_of_others(tmp_path, monkeypatch):
    "As a/b of somebody who has always typed it so is a folder that is missing there, and no name of the catalog"
    monkeypatch.setattr(os, 'sep', '\\')
    for o in (lambda: open_data('no/where'), lambda: check_named('no/where')):
        with pytest.raises(DataError, match='no/where'): o()
    monkeypatch.setattr(os.path, 'expanduser', lambda o: o.replace('~', 'home'))
    assert _at_home('~\\x')=='home\\x' and _at_home('~/x')=='home/x' and _at_home('~x')=='~x'

def test_no_folder_is_told(monkeypatch):
    "Nor that of an upload, which is another's"
    monkeypatch.setattr(os, 'sep', '\\')
    monkeypatch.setattr(reader, 'Path', lambda o: type('P', (), dict(parent=o.rpartition('\\')[0])))
    assert reader.without_folder('see C:\\up\\0\\d.png', 'C:\\up\\0\\c.png')=='see d.png'
    monkeypatch.setattr(say, 'command', ['train','oct','--data','D:\\clinic\\eyes\\'])
    assert typed_command()=='fundus train oct --data eyes'

def test_a_table_that_is_open_in_another_program(monkeypatch):
    "Excel holds it there; to ask its owner for a right is no help"
    e = PermissionError(errno.EACCES, 'Permission denied', 'answers.csv')
    assert _sentence(e)[0]=='Permission denied: answers.csv (name another, or ask its owner for the right to it)'
    monkeypatch.setattr(os, 'name', 'nt')
    told = _sentence(e)[0]
    monkeypatch.undo()
    assert told.endswith('the right to it, or close the program that has it open)')

def test_a_table_that_was_made_there():
    "A folder and a name were one name here, and no row was of any picture"
    here = ['/d/eyes/1_left.png','/d/eyes/2_left.png']
    there = ['C:\\clinic\\eyes\\2_left.png','C:\\clinic\\eyes\\1_left.png']
    assert same_files(here, there)==dict(zip(here, there[::-1])) and same_files(there, here)==dict(zip(there, here[::-1]))
    assert same_files(here, there, moved=False)=={}

def test_no_two_pages_have_a_port(monkeypatch):
    "SO_REUSEADDR, which frees the port of who has just ended, lets two have one there: answers went into the other's table"
    asked,real = [],socket.socket.setsockopt
    def setsockopt(self, level, what, value):
        asked.append(what)
        real(self, level, socket.SO_REUSEADDR if what==-5 else what, value)
    monkeypatch.setattr(socket.socket, 'setsockopt', setsockopt)
    for there in (False,True):
        if there: monkeypatch.setattr(socket, 'SO_EXCLUSIVEADDRUSE', -5, raising=False)
        with bound(0): LocalServer(('127.0.0.1', 0), None).server_close()
        assert asked==[-5 if there else socket.SO_REUSEADDR]*2
        asked.clear()
