"Ten thousand files: parts for many machines, parquet, a kill, and what is said along the way"
import os, re, shutil, signal, subprocess, sys
from pathlib import Path
from types import SimpleNamespace
import pandas as pd, pytest
from PIL import Image
from fundus_fastai import core
from fundus_fastai.cli import main
from fundus_fastai.core import DataError
from fundus_fastai.run.train import predict_run
from fundus_fastai.vision import answers
from fundus_fastai.vision.answers import gather_folders, gather_shards, paced

HERE  = Path(__file__).parent/'old_run'
SCANS = sorted(HERE.glob('scans/**/*.jpeg'))
RUN   = HERE/'run'

def parts_of(tmp_path, n=3, files=SCANS, suffix='.csv'):
    out = [tmp_path/f'{k}{suffix}' for k in range(1, n+1)]
    for k,f in enumerate(out, 1): predict_run(RUN, files, bs=1, out=f, shard=(k,n), keep=False)
    return out

def test_parts_make_the_whole(tmp_path):
    "To the byte, in whatever order they are named"
    predict_run(RUN, SCANS, bs=1, out=tmp_path/'one.csv')
    parts = parts_of(tmp_path)
    for k,order in enumerate((parts, parts[::-1])):
        t = gather_shards(order, tmp_path/f'all{k}.csv')
        assert (tmp_path/f'all{k}.csv').read_bytes()==(tmp_path/'one.csv').read_bytes()
        assert t.path.tolist()==list(map(str, SCANS)) and 'shard' not in t
    n = [len(pd.read_csv(o)) for o in parts]
    assert sum(n)==len(SCANS) and max(n)-min(n)<=1

def test_a_table_that_is_there_stays(tmp_path):
    "One part of one picture is a whole; it is not written over what somebody has"
    part = parts_of(tmp_path, 1, SCANS[:1])
    (tmp_path/'all.csv').write_text('mine')
    with pytest.raises(DataError, match='all.csv exists'): gather_shards(part, tmp_path/'all.csv')
    assert (tmp_path/'all.csv').read_text()=='mine'
    assert gather_shards(part, tmp_path/'all.csv', force=True).path.tolist()==[str(SCANS[0])]

def test_more_parts_than_files(tmp_path):
    parts = parts_of(tmp_path, 5, SCANS[:3])
    assert [len(pd.read_csv(o)) for o in parts]==[1,1,1,0,0]
    assert len(gather_shards(parts, tmp_path/'all.csv'))==3==len(gather_shards(parts[:3], tmp_path/'three.csv'))

def test_a_part_without_an_answer(tmp_path):
    "A broken file and a black one are rows too, and all of a part may be such"
    (tmp_path/'x').mkdir()
    Image.new('L', (200,160)).save(tmp_path/'x'/'black.png')
    (tmp_path/'x'/'broken.png').write_bytes(b'no picture')
    files = [tmp_path/'x'/'broken.png', SCANS[0], tmp_path/'x'/'black.png', SCANS[1]]
    predict_run(RUN, files, bs=1, out=tmp_path/'one.csv')
    t = gather_shards(parts_of(tmp_path, 4, files), tmp_path/'all.csv')
    assert t.usable.tolist()==[False,True,False,True]
    assert (tmp_path/'all.csv').read_bytes()==(tmp_path/'one.csv').read_bytes()

def test_what_does_not_belong_together(tmp_path):
    a,b,c = parts_of(tmp_path)
    out = tmp_path/'all.csv'
    with pytest.raises(DataError, match=r'of the parts 2/3'): gather_shards([a,c], out)
    with pytest.raises(DataError, match='in two parts'): gather_shards([a,b,c,b], out)
    predict_run(RUN, SCANS, out=tmp_path/'plain.csv')
    with pytest.raises(DataError, match='no part that'): gather_shards([a,b,tmp_path/'plain.csv'], out)
    cut = tmp_path/'cut.csv'
    cut.write_bytes(c.read_bytes().rstrip()[:-40]) # copied halfway
    with pytest.raises(DataError, match='1 of . rows of .*cut.csv do not say whose part they are'): gather_shards([a,b,cut], out)
    with pytest.raises(DataError, match='2 ways to deal'):
        predict_run(RUN, SCANS, out=tmp_path/'half.csv', shard=(2,2))
        gather_shards([a,b,tmp_path/'half.csv'], out)
    with pytest.raises(DataError, match='2 numbers of files'): # a folder that grew
        predict_run(RUN, SCANS[:-1], out=tmp_path/'less.csv', shard=(3,3))
        gather_shards([a,b,tmp_path/'less.csv'], out)
    with pytest.raises(DataError, match='2 lists of files'): # as many, of another folder
        for o in SCANS: shutil.copy(o, tmp_path/f'other_{Path(o).name}')
        predict_run(RUN, sorted(map(str, tmp_path.glob('other_*'))), out=tmp_path/'other.csv', shard=(3,3))
        gather_shards([a,b,tmp_path/'other.csv'], out)
    text = b.read_text()
    model = pd.read_csv(b).model[0]
    b.write_text(text.replace(model, '0'*16))
    with pytest.raises(DataError, match='2 models'): gather_shards([a,b,c], out)
    b.write_text(''.join(text.splitlines(True)[:-1]))
    with pytest.raises(DataError, match='1 of .* images are missing, of the parts 2/3'): gather_shards([a,b,c], out)
    for odd in (b'', b'\x00\x01', b'a,b\n1,2\n'):
        b.write_bytes(odd)
        with pytest.raises(DataError, match='2.csv is no '): gather_shards([a,b,c], out)
    with pytest.raises(DataError, match='gone.csv is no table'): gather_shards([a,tmp_path/'gone.csv'], out)
    assert not out.exists()

def test_a_part_is_resumed_as_that_part(tmp_path):
    out = tmp_path/'t.csv'
    predict_run(RUN, SCANS, bs=1, out=out, shard=(1,2))
    os.replace(out, f'{out}.part')
    for other in ((2,2), (1,3), None):
        with pytest.raises(DataError, match='another shard'): predict_run(RUN, SCANS, out=out, resume=True, shard=other)
    predict_run(RUN, SCANS, out=out, resume=True, shard=(1,2))
    assert len(pd.read_csv(out))==len(SCANS[::2])

def test_parts_of_two_keys_do_not_belong_together(tmp_path, monkeypatch):
    "Each patient stood there as two; parts of earlier versions, and of no hospital's file, tell no key and still go"
    dicoms = pytest.importorskip('dicoms')
    def key(name): monkeypatch.setenv('FUNDUS_PATIENT_KEY', str(tmp_path/f'{name}.key'))
    files = [dicoms.write(tmp_path/f'{k}.dcm', dicoms.scans(1, seed=k), PatientID='A') for k in range(4)]
    key('one')
    a,b = parts_of(tmp_path, 2, files)
    assert gather_shards([a,b], tmp_path/'all.csv').patient.nunique()==1
    key('two')
    os.replace(b, f'{b}.part')
    with pytest.raises(DataError, match='2.csv.part: its patients were called by another key .*FUNDUS_PATIENT_KEY'):
        predict_run(RUN, files, out=b, resume=True, shard=(2,2))
    predict_run(RUN, files, out=b, force=True, shard=(2,2))
    with pytest.raises(DataError, match='by several keys.*FUNDUS_PATIENT_KEY'): gather_shards([a,b], tmp_path/'two.csv')
    a.write_text(re.sub(', key [0-9a-f]{8}', '', a.read_text()))
    assert len(gather_shards([a,b], tmp_path/'two.csv'))==4
    key('one')
    os.replace(a, f'{a}.part')
    predict_run(RUN, files, out=a, resume=True, shard=(1,2))
    assert 'key' not in {*pd.read_csv(tmp_path/'two.csv')}

# --- the file

@pytest.mark.parametrize('argv,says', [
    (['--shard','5/4'], '--shard 5/4 is none: K/N is the K-th of N parts'), (['--shard','0/4'], '--shard 0/4 is none'),
    (['--shard','3'], '--shard 3 is none'), (['--shard','-1/4'], '--shard -1/4 is none'),
    (['--out','{tmp}/file/t.csv'], 'cannot be written'), (['--out','{tmp}'], 'is a folder: name a file with --out'),
    (['--out','{tmp}/file/t.parquet'], 'cannot be written')])
def test_what_cannot_be_is_a_sentence(tmp_path, capsys, monkeypatch, argv, says):
    (tmp_path/'file').write_text('mine')
    monkeypatch.setattr(answers, 'need', lambda name: None)
    argv = [o.replace('{tmp}', str(tmp_path)) for o in argv]
    argv = [f'{argv[0]}={argv[1]}']
    assert main(['predict', RUN, SCANS[0], *argv])==1
    err = capsys.readouterr().err
    assert says in err and 'foresee' not in err and [o.name for o in tmp_path.iterdir()]==['file']

def test_parquet_without_pyarrow(tmp_path, capsys, monkeypatch):
    def absent(name): raise ImportError(f'No module named {name}')
    monkeypatch.setattr(core, 'importlib', SimpleNamespace(import_module=absent))
    assert main(['predict', RUN, SCANS[0], '--out', tmp_path/'t.parquet'])==1
    assert 'pip install pyarrow' in capsys.readouterr().err and not any(tmp_path.iterdir())

def test_parquet(tmp_path):
    "The same table, with types; it is resumed and gathered as CSV is"
    pytest.importorskip('pyarrow')
    predict_run(RUN, SCANS, bs=1, out=tmp_path/'t.csv')
    predict_run(RUN, SCANS, bs=1, out=tmp_path/'t.parquet')
    a,b = pd.read_csv(tmp_path/'t.csv', dtype=dict(patient=str)),pd.read_parquet(tmp_path/'t.parquet')
    assert list(a)==list(b) and b.usable.dtype==bool and (b.dtypes[a.filter(like='p_').columns]==float).all()
    assert a.to_csv(index=False)==b.to_csv(index=False) and not (tmp_path/'t.parquet.part').exists()
    gather_shards(parts_of(tmp_path, suffix='.parquet'), tmp_path/'all.csv')
    assert (tmp_path/'all.csv').read_bytes()==(tmp_path/'t.csv').read_bytes()
    gather_shards(parts_of(tmp_path), tmp_path/'all.parquet')
    assert pd.read_parquet(tmp_path/'all.parquet').equals(b)

KILLED = """
import os, signal, sys
from fundus_fastai.run import train
from fundus_fastai.vision import answers
real,left = answers.predict_files,[int(sys.argv[1])]
def f(*args, **kwargs):
    left[0] -= 1
    if not left[0]: os.kill(os.getpid(), signal.SIGKILL)
    return real(*args, **kwargs)
answers.predict_files = f
train.predict_run(sys.argv[2], sys.argv[4:], bs=2, out=sys.argv[3], keep=False)
"""

def test_a_kill_loses_one_batch(tmp_path):
    "Killed in the third batch of two, it has the rows of two, and goes on"
    r = subprocess.run([sys.executable, '-W', 'ignore', '-c', KILLED, '3', str(RUN), str(tmp_path/'t.csv'), *map(str, SCANS)],
                       capture_output=True, text=True)
    assert r.returncode==-signal.SIGKILL, r.stderr[-1000:]
    part = tmp_path/'t.csv.part'
    assert len(pd.read_csv(part))==4
    predict_run(RUN, SCANS, bs=2, out=tmp_path/'t.csv', resume=True)
    assert pd.read_csv(tmp_path/'t.csv').path.tolist()==list(map(str, SCANS)) and not part.exists()

def test_the_pace_is_said_where_no_bar_is_seen(capsys, monkeypatch):
    monkeypatch.delitem(sys.modules, 'ipykernel', raising=False)
    assert list(paced([[1,2],[3,4],[5]], 5, every=0))==[[1,2],[3,4],[5]]
    lines = capsys.readouterr().err.splitlines()
    assert len(lines)==3 and lines[1].startswith('4 of 5 images, ') and lines[1].endswith(' left')
    list(paced([[1]], 1))
    assert not capsys.readouterr().err

def test_how_long_it_will_take(monkeypatch, capsys):
    "Twenty pictures in ten seconds: for the other eighty forty more"
    clock = [0.]
    monkeypatch.delitem(sys.modules, 'ipykernel', raising=False)
    monkeypatch.setattr(answers, 'time', SimpleNamespace(time=lambda: clock[0]))
    for o in paced([[1]*20]*5, 100, every=0): clock[0] += 10
    assert '20 of 100 images, 2.0 a second, 00:40 left' in capsys.readouterr().err

def test_rows_are_counted_and_not_kept(tmp_path, capsys):
    t = predict_run(RUN, SCANS, bs=2, out=tmp_path/'t.csv', keep=False)
    assert len(t)==0 and t.attrs['rows']==len(SCANS)==len(pd.read_csv(tmp_path/'t.csv')) and t.attrs['blind']==0
    assert main(['predict', RUN, *SCANS, '--out', tmp_path/'u.csv'])==0
    assert f'{len(SCANS)} rows' in capsys.readouterr().err

def test_the_command(tmp_path, capsys):
    for k in (1,2): assert main(['predict', RUN, HERE/'scans', '--shard', f'{k}/2', '--out', tmp_path/f'{k}.csv'])==0
    assert main(['gather', tmp_path/'1.csv', tmp_path/'2.csv', '--out', tmp_path/'all.csv'])==0
    assert f'{len(SCANS)} rows' in capsys.readouterr().out
    assert main(['gather', tmp_path/'1.csv', tmp_path/'2.csv', '--out', tmp_path/'all.csv'])==1
    assert '--force' in capsys.readouterr().err
    assert main(['gather', tmp_path/'1.csv'])==1 and '--out' in capsys.readouterr().err

@pytest.mark.skipif(not Path('/dev/full').exists(), reason='no device that is always full')
def test_a_full_disk_is_named(tmp_path, capsys):
    "It said that no space was left, and not where"
    (tmp_path/'t.csv.part').symlink_to('/dev/full')
    assert main(['predict', RUN, SCANS[0], '--out', tmp_path/'t.csv'])==1
    err = capsys.readouterr().err
    assert f'no space left on the device for {tmp_path/"t.csv.part"}: free some' in err and '(--resume goes on)' in err

def test_rows_of_an_earlier_call_are_counted(tmp_path):
    "Gone on with, a table of seven was told of as of five"
    def row(stop):
        def f(path):
            if path==stop: raise KeyboardInterrupt
            return dict(path=path, reason=''),True
        return f
    def table(stop=None, resume=False):
        return answers.RowFile(tmp_path/'t.csv', resume).one_by_one(list('abcde'), row(stop), ['path','reason'], what='rows')
    with pytest.raises(KeyboardInterrupt): table('d')
    t = table(resume=True)
    assert len(t)==2 and t.attrs['rows']==5==table(resume=True).attrs['rows']

def test_parts_of_other_columns_do_not_belong_together(tmp_path):
    "As of copies of a run of which one was reported anew: cells were left empty, and nobody was told"
    a,b,c = parts_of(tmp_path)
    t = pd.read_csv(b)
    t.assign(more='yes').to_csv(b, index=False)
    with pytest.raises(DataError, match='not all of these parts have more: predict them anew'): gather_shards([a,b,c], tmp_path/'all.csv')
    t.assign(model=None).to_csv(b, index=False)
    with pytest.raises(DataError, match='2 models'): gather_shards([a,b,c], tmp_path/'all.csv')
    t.to_csv(b, index=False)
    assert len(gather_shards([a,b,c], tmp_path/'all.csv'))==len(SCANS)

# --- parts that lie in folders of their own

def folders(d, n=3, name='maps.csv', **more):
    "Tables as `explain`, `vessels` and `lesions` leave them, each image twice"
    for k in range(1, n+1):
        (d/f'{k}of{n}').mkdir(exist_ok=True)
        rows = [dict(path=f'{chr(96+i)}.png', score=f'{i}.50', overlay='' if i==2 else f'o/{i}.jpg', model='m', **more) for i in range(k, 7, n) for _ in 'ab']
        pd.DataFrame(rows).to_csv(d/f'{k}of{n}'/name, index=False)
    return [d/f'{k}of{n}'/name for k in range(1, n+1)]

def test_tables_of_folders_are_joined_as_they_stand(tmp_path, capsys):
    files = folders(tmp_path)
    for order in (files, files[::-1]):
        t = gather_folders(order, tmp_path/'all.csv', force=True)
        assert t.path.tolist()==[f'{o}.png' for o in 'aabbccddeeff'] and t.score.tolist()[:3]==['1.50','1.50','2.50']
        assert t.overlay.tolist()[::2]==['1of3/o/1.jpg','','3of3/o/3.jpg','1of3/o/4.jpg','2of3/o/5.jpg','3of3/o/6.jpg']
        assert pd.read_csv(tmp_path/'all.csv', dtype=str, keep_default_na=False).equals(t)
    assert main(['gather', *files, '--out', tmp_path/'sub/all.csv'])==0 and '12 rows' in capsys.readouterr().out
    assert pd.read_csv(tmp_path/'sub/all.csv').overlay[0]=='../1of3/o/1.jpg'

@pytest.mark.parametrize('spoil,says', [
    (lambda d, f: f.pop(1), 'no table of the parts 2of3: make them'),
    (lambda d, f: f.append(f[0]), '2 images stand in two parts: a.png, d.png'),
    (lambda d, f: f.append(folders(d, 3, 'counts.csv')[0]), 'name the same table of each part'),
    (lambda d, f: f.append(folders(d, 2)[0]), 'name the same table of each part'),
    (lambda d, f: f[0].write_text(f[0].read_text().replace(',m\n', ',other\n')), 'differ in their model'),
    (lambda d, f: f[0].write_text(f[0].read_text().replace('score', 'more')), 'differ in their columns'),
    (lambda d, f: f[0].write_text('x,y\n1,2\n'), "1of3/maps.csv is no table of images: it has no column 'path'"),
    (lambda d, f: f[0].unlink(), '1of3/maps.csv is no table'),
    (lambda d, f: f[0].write_bytes(b'\xff\xfe\x00'), '1of3/maps.csv is no table')])
def test_folders_that_do_not_belong_together(spoil, says, tmp_path, capsys):
    spoil(tmp_path, files := folders(tmp_path))
    assert main(['gather', *files, '--out', tmp_path/'all.csv'])==1
    assert says in capsys.readouterr().err and not (tmp_path/'all.csv').exists()

def test_what_else_gather_refuses_of_folders(tmp_path, capsys):
    files = folders(tmp_path)
    assert main(['gather', *files, '--out', tmp_path/'all.parquet'])==1 and 'name a .csv' in capsys.readouterr().err
    (tmp_path/'all.csv').write_text('mine')
    assert main(['gather', *files, '--out', tmp_path/'all.csv'])==1 and '--force' in capsys.readouterr().err
    assert (tmp_path/'all.csv').read_text()=='mine'
