"Class folders, Kermany's layouts and CSVs: as they come, and as they must not"
import os, time
import pandas as pd, pytest
from fundus_fastai.core import DataError
from fundus_fastai.image.read import check_images, read_image
from fundus_fastai.data.read import read_csv, read_folder, read_kermany
from fundus_fastai.data.catalog import check_trainable
from made import touch

# --- Kermany --------------------

SCANS = ['train/CNV/CNV-11-1.jpeg','train/CNV/CNV-11-2.jpeg','train/DME/DME-12-1.jpeg','val/NORMAL/NORMAL-14-2.jpeg',
    'test/DRUSEN/DRUSEN-13-3.jpeg']
LAYOUTS = {'space':['OCT2017 '], 'plain':['OCT2017'], 'nested':['OCT2017/OCT2017'], 'lower':['oct2017/OCT2017 '],
    'bare':['.'], 'twice':['OCT2017 ','oct2017/OCT2017'], 'thrice':['OCT2017','OCT2017 ','a/b/OCT2017']}

def rows(df): return sorted((o.split,o.label,o.patient,os.path.basename(o.path)) for o in df.itertuples())
WANT = sorted((s.split('/')[0].replace('val','valid'), s.split('/')[1], s.split('-')[1],
    s.split('/')[2]) for s in SCANS)

@pytest.mark.parametrize('layout', LAYOUTS)
def test_kermany_layouts(tmp_path, layout, capsys):
    for top in LAYOUTS[layout]: touch(tmp_path, *(f'{top}/{s}' for s in SCANS), f'{top}/.DS_Store',
        f'{top}/train/CNV/._CNV-11-1.jpeg')
    touch(tmp_path, '__MACOSX/OCT2017/train/CNV/CNV-99-1.jpeg', 'truth/CNV-11-1.npz', 'truth.csv')
    df = read_kermany(tmp_path)
    assert rows(df)==WANT
    assert df.columns.tolist()==['path','patient','eye','split','label'] and df.eye.isna().all()
    assert all(os.path.isabs(p) and os.path.isfile(p) for p in df.path)
    n = len(SCANS)*(len(LAYOUTS[layout])-1)
    assert (f'{n} repeated files are counted once' in capsys.readouterr().err) == (n>0)
    for top in LAYOUTS[layout]:
        assert rows(read_kermany(tmp_path/top))==WANT
        assert rows(read_kermany(tmp_path/top/'train'))==[o for o in WANT if o[0]=='train']

def test_kermany_names_and_folders(tmp_path, capsys):
    touch(tmp_path, 'train/CNV/CNV-1-1.JPG', 'train/CNV/cnv-2-1.png', 'train/CNV/DME-3-1.jpeg',
        'train/DME/odd name.jpeg', 'train/odd.jpeg')
    df = read_kermany(tmp_path).set_index('path').rename(os.path.basename)
    assert df.label.to_dict()=={'CNV-1-1.JPG':'CNV','cnv-2-1.png':'CNV','DME-3-1.jpeg':'CNV','odd name.jpeg':'DME'}
    assert df.patient['odd name.jpeg']=='train/DME/odd name.jpeg' and df.patient['cnv-2-1.png']=='2'
    err = capsys.readouterr().err
    for o in ('1 of 4 images do not tell', 'named for another class', '1 of 5 images tell no class', 'odd.jpeg'):
        assert o in err

def test_kermany_nothing_there(tmp_path):
    with pytest.raises(DataError, match='not a folder'): read_kermany(tmp_path/'no')
    with pytest.raises(DataError, match='holds no images'): read_kermany(tmp_path)
    with pytest.raises(DataError, match='no Kermany scans'): read_kermany(touch(tmp_path, 'cats/1.png'))

def test_kermany_is_fast(tmp_path):
    for c in ('CNV','DME'):
        (tmp_path/c).mkdir()
        for i in range(2500): (tmp_path/c/f'{c}-{i//5}-{i%5}.jpeg').touch()
    t = time.time(); df = read_kermany(tmp_path)
    assert len(df)==5000 and df.patient.nunique()==500 and time.time()-t<3

# --- class folders --------------------

@pytest.mark.parametrize('top', ['', 'archive/', 'a/b/'])
def test_folder_trees(tmp_path, top):
    touch(tmp_path, *(f'{top}{s}/{c}/x.png' for s in ('train','val','test') for c in 'AB'))
    assert rows(read_folder(tmp_path))==sorted((s,c,f'{top}{o}/{c}/x.png','x.png') for s,o in (('train','train'),
        ('valid','val'),('test','test')) for c in 'AB')

def test_folder_without_split_and_patients(tmp_path, capsys):
    touch(tmp_path, 'A/1.png', 'B/2.png', 'B/CNV-7-1.jpeg', 'loose.png')
    df = read_folder(tmp_path)
    assert df.patient.tolist()==['A/1.png','B/2.png','7'] and df.split.isna().all()
    err = capsys.readouterr().err
    assert '2 of 3 images do not tell their patient' in err and '1 of 4 images lie outside' in err

def test_folder_errors(tmp_path):
    with pytest.raises(DataError, match='no class folders'): read_folder(touch(tmp_path/'a', 'x.png'))
    with pytest.raises(DataError, match='too deep'): read_folder(touch(tmp_path/'b', 'A/p1/x.png', 'B/p1/x.png'))
    with pytest.raises(DataError, match='only one class folder.*t.csv'): read_folder(touch(tmp_path/'c',
        'images/x.png', 't.csv'))

# --- CSV --------------------

@pytest.fixture
def shop(tmp_path):
    touch(tmp_path, *(f'images/{o}.png' for o in 'abcd'))
    def write(text, name='t.csv', enc='utf-8'):
        (tmp_path/name).write_bytes(text if isinstance(text, bytes) else text.encode(enc)); return tmp_path/name
    return write

def test_csv_columns_and_kept(shop, capsys):
    df = read_csv(shop('file,patient_id,eye,grade,age\na.png,007,OD,0,61\nb.png,007,left,1.0,62\nc.png,8,?,2,\n'),
        label='grade')
    assert df.columns.tolist()==['path','patient','eye','split','label','age']
    assert df.patient.tolist()==['007','007','8']
    assert df.label.tolist()==['0','1','2'] and df.eye.tolist()[:2]==['R','L'] and pd.isna(df.eye[2]) and df.age[0]==61
    err = capsys.readouterr().err
    for o in ("column 'file'", "column 'patient_id'", 'images are taken from', 'no known eye'): assert o in err

@pytest.mark.parametrize('text,enc', [('path,label\na.png,ä\nb.png,x\n','utf-8-sig'),
    ('path;label\na.png;ä\nb.png;x\n','latin-1'),
    ('path\tlabel\r\na.png\tä\r\nb.png\tx\r\n','utf-16'), ('\npath, label\na.png, ä\nb.png, x\n','utf-8'),
        ('"path","label"\n"a.png","ä"\n"b.png","x"\n','utf-8')])
def test_csv_dialects(shop, text, enc):
    df = read_csv(shop(text, enc=enc))
    assert df.label.tolist()==['ä','x'] and df.patient.tolist()==['images/a.png','images/b.png']

def test_csv_places(shop, tmp_path, capsys):
    t = shop('path,label\nimages/a.png,0\nimages/b.png,1\n'); assert len(read_csv(t))==2
    t = shop('id_code,label\na,0\nb,1\n');                    assert read_csv(t).path[0].endswith('images/a.png')
    t = shop(f'path,label\n{tmp_path}/images/a.png,0\nimages/../images/b.png,1\n')
    assert read_csv(t).path[1]==str(tmp_path/'images/b.png')
    t = shop('path,label\na.png,0\nb.png,1\n')
    assert read_csv(t, images=tmp_path/'images').attrs['root']==str(tmp_path)
    assert 'no patient column' in capsys.readouterr().err

def test_csv_labels(shop, capsys):
    df = read_csv(shop('path,label\na.png,None\nb.png,DME\nc.png,\nd.png,nan\n'))
    assert df.label.tolist()==['None','DME']
    assert '2 of 4 rows have no' in capsys.readouterr().err
    assert read_csv(shop('path,label\na.png,0.0\nb.png,1.0\nc.png,\n')).label.tolist()==['0','1']
    assert read_csv(shop('path,label\na.png,01\nb.png,x\n')).label.tolist()==['01','x']
    assert read_csv(shop('path,label,DME\na.png,x,0\nb.png,y,1\n'), label='DME').label_csv.tolist()==['x','y']

def test_csv_split(shop):
    df = read_csv(shop('path,label,split\na.png,0,Training\nb.png,1,val\nc.png,1,fold1\n'))
    assert df.split[:2].tolist()==['train','valid'] and pd.isna(df.split[2])

def test_csv_duplicates(shop, capsys):
    assert len(read_csv(shop('path,label\na.png,0\n./a.png,0\nb.png,1\n')))==2
    assert '1 of 3 rows repeat' in capsys.readouterr().err
    with pytest.raises(DataError, match='different labels or patients for 1 of 2 files.*a.png'):
        read_csv(shop('path,label\na.png,0\na.png,1\nb.png,1\n'))
    with pytest.raises(DataError, match='patient p1.*patient p2'):
        read_csv(shop('path,label,patient\na.png,0,p1\na.png,0,p2\n'))

REFUSED = [
    ('', 'is empty', {}),
    ('\n\n', 'is empty', {}),
    (b'\x89PNG\0\0', 'binary file', {}),
    ('path,label\n', 'no rows', {}),
    ('path,label\na.png,1,2\n', 'more fields', {}),
    ('path,label\na.png,1\nb.png,1,2,3\n', 'not a readable CSV', {}),
    ('scan,label\na.png,1\n', 'no column is called path.*`path_col=COL` .*scan', {}),
    ('path,lable\na.png,1\n', "unknown column 'label'; did you mean lable", {}),
    ('path,label\na.png,1\n', "unknown column 'pid'.*`patient=COL`", dict(patient='pid')),
    ('path,label\na.png,1\n', "`eye=COL`", dict(eye='side')),
    ('path,label\na.png,1\n', "`path_col=COL`", dict(path_col='file')),
    ('path,label\nx.png,1\ny.png,1\na.png,0\n', '2 of 3 image files are not in .*`images=DIR`.*x.png, y.png', {}),
    ('path,label\na.png,1\n', '1 of 1 image files', dict(images='/no/such')),
    ('path,label\na.png,\n', "'label' is empty", {}),
    ('path,label\n,1\na.png,0\n', r"1 of 2 rows have no 'path' \(row 2\)", {}),
    ('path,label,patient\na.png,1,p\nb.png,0,NaN\n', r"1 of 2 rows have no 'patient' \(row 3\)", {})]

@pytest.mark.parametrize('text,why,kw', REFUSED)
def test_csv_refused(shop, text, why, kw):
    with pytest.raises(DataError, match=why) as e: read_csv(shop(text), **kw)
    assert 't.csv' in str(e.value)

def test_csv_absent(tmp_path):
    with pytest.raises(DataError, match='no.csv does not exist'): read_csv(tmp_path/'no.csv')
    with pytest.raises(DataError, match='cannot be read'): read_csv(tmp_path)

def test_demand_trainable():
    df = pd.DataFrame({'patient':['p','p','q'], 'label':['0','1','1']})
    assert check_trainable(df) is df
    with pytest.raises(DataError, match='every image has the label 1'): check_trainable(df[1:])
    with pytest.raises(DataError, match=r'one patient \(p\)'): check_trainable(df[:2])

# --- real images --------------------

def test_real_kermany_samples(test_data):
    df = read_kermany(test_data/'kermany_samples')
    assert sorted(df.label)==['CNV','DME','DRUSEN','NORMAL'] and {'15307','53018','1384'} <= set(df.patient)
    assert not len(check_images(df.path)) and all(read_image(p).ndim==2 for p in df.path)
