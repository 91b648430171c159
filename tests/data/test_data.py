"Images, catalog, splits and open_data: every layout, every bad input, and properties of splits"
import io, os, shutil, struct, time, zlib
from pathlib import Path
import numpy as np, pandas as pd, pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from PIL import Image
from fundus_fastai import __version__
from fundus_fastai.core import DataError, DownloadError, EyeError, LeakError, write_json
from fundus_fastai.image.read import check_images, check_readable, read_image
from fundus_fastai.data import read as reading, load as opened
from fundus_fastai.data.read import *
from fundus_fastai.data.catalog import *
from fundus_fastai.data.splits import *
from fundus_fastai.data.load import open_data
from fundus_fastai.vision.steps import split_frame

REAL = os.environ.get('FUNDUS_TEST_DATA')
real = pytest.mark.skipif(not REAL, reason='FUNDUS_TEST_DATA is not set')
rng  = np.random.default_rng(0)
gray = rng.integers(0, 256, (48,64), dtype=np.uint8)
rgb  = rng.integers(0, 256, (48,64,3), dtype=np.uint8)

def touch(root, *names):
    for n in names: f = Path(root)/n; f.parent.mkdir(parents=True, exist_ok=True); f.touch()
    return Path(root)

# --- images --------------------

def png(w, h, depth=8, color=2, data=b''):
    "A PNG whose header says what we like"
    chunk = lambda k,b: struct.pack('>I', len(b))+k+b+struct.pack('>I', zlib.crc32(k+b))
    head = chunk(b'IHDR', struct.pack('>IIBBBBB', w, h, depth, color, 0, 0, 0))
    return b'\x89PNG\r\n\x1a\n' + head + chunk(b'IDAT', zlib.compress(data)) + chunk(b'IEND', b'')

def encode(a, fmt, mode=None, **kw):
    im = Image.fromarray(a); b = io.BytesIO()
    (im.convert(mode) if mode else im).save(b, fmt, **kw)
    return b.getvalue()

deep = gray.astype('uint16')*200
BAD = {
    'empty.png':     (b'', 'empty'),
    'text.jpeg':     (b'<html>404</html>', 'not an image'),
    'print.eps':     (b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n', 'not an image'),
    'one.png':       (png(1,1,data=bytes(4)), '1x1 pixels'),
    'thin.png':      (encode(gray[:15], 'PNG'), '64x15 pixels'),
    'bomb.png':      (png(30000,30000), '64 megapixels'),
    'small_bomb.png':(png(8001,8000), '64 megapixels'),
    'deep.png':      (encode(deep, 'PNG'), 'intensity window'),
    'deep.tiff':     (encode(deep, 'TIFF'), 'intensity window'),
    'deep_rgb.png':  (png(20,20,16,2,(b'\0'+bytes(120))*20), 'intensity window'),
    'deep_rgba.png': (png(20,20,16,6,(b'\0'+bytes(160))*20), 'intensity window'),
    'int.tiff':      (encode(gray.astype('int32'), 'TIFF'), 'intensity window'),
    'float.tiff':    (encode(gray.astype('float32'), 'TIFF'), 'intensity window'),
    'cmyk.jpeg':     (encode(rgb, 'JPEG', 'CMYK'), 'convert it to RGB'),
    'cmyk.tiff':     (encode(rgb, 'TIFF', 'CMYK'), 'convert it to RGB'),
    'lab.tiff':      (encode(rgb, 'TIFF', 'LAB'), 'convert it to RGB'),
    'pages.tiff':    (encode(gray, 'TIFF', save_all=True, append_images=[Image.fromarray(gray)]), '2 pages'),
    'cut.jpeg':      (encode(gray, 'JPEG')[:-200], 'fetch or copy it again'),
    'cut.png':       (encode(rgb, 'PNG')[:-2000], 'fetch or copy it again'),
    'cut.tiff':      (encode(rgb, 'TIFF')[:-2000], 'again'),
    'cut.bmp':       (encode(rgb, 'BMP')[:-2000], 'again'),
}

@pytest.mark.filterwarnings('ignore::PIL.Image.DecompressionBombWarning')
@pytest.mark.parametrize('name', BAD)
def test_bad_image(tmp_path, name):
    content,why = BAD[name]
    (tmp_path/name).write_bytes(content)
    with pytest.raises(DataError) as e: read_image(tmp_path/name)
    assert str(tmp_path/name) in str(e.value) and why in str(e.value) and '\n' not in str(e.value)
    bad = check_images([tmp_path/name])
    assert len(bad)==1 and why in bad.problem[0]

@pytest.mark.parametrize('fmt', ['PNG','TIFF','BMP','WEBP','GIF'])
def test_lossless_formats(tmp_path, fmt):
    (tmp_path/'x').write_bytes(encode(gray, fmt, lossless=True))
    a = read_image(tmp_path/'x')
    assert a.dtype==np.uint8 and (a if a.ndim==2 else a[...,0]).shape==gray.shape
    assert np.array_equal(a if a.ndim==2 else a[...,0], gray)

@pytest.mark.parametrize('mode,ndim', [('1',2),('L',2),('LA',2),('P',3),('RGB',3),('RGBA',3)])
def test_modes(tmp_path, mode, ndim):
    (tmp_path/'x.png').write_bytes(encode(rgb, 'PNG', mode))
    assert read_image(tmp_path/'x.png').ndim==ndim
    assert read_image(tmp_path/'x.png', gray=True).shape==gray.shape

def test_missing_image_folder_and_orientation(tmp_path):
    with pytest.raises(DataError, match='no.png does not exist'): read_image(tmp_path/'no.png')
    with pytest.raises(DataError, match='is a folder'): read_image(tmp_path)
    exif = Image.Exif(); exif[0x0112] = 3
    Image.fromarray(gray).save(tmp_path/'turned.png', exif=exif)
    assert np.array_equal(read_image(tmp_path/'turned.png'), gray[::-1,::-1])

def test_pillow_limit_is_left_alone():
    assert Image.MAX_IMAGE_PIXELS == int(1024*1024*1024 // 4 // 3)

@pytest.mark.filterwarnings('ignore')
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damaged_bytes_never_escape(tmp_path, data):
    "Whatever is done to a file, the answer is an array or a DataError"
    raw = bytearray(encode(rgb, data.draw(st.sampled_from(['PNG','JPEG','TIFF','BMP','GIF','WEBP']))))
    for _ in range(data.draw(st.integers(1,8))): raw[data.draw(st.integers(0,len(raw)-1))] = data.draw(st.integers(0,
        255))
    (tmp_path/'x').write_bytes(raw[:data.draw(st.integers(1,len(raw)))])
    try: assert read_image(tmp_path/'x').dtype==np.uint8
    except DataError: pass

def test_demand_images_lists_and_counts(tmp_path):
    paths = [tmp_path/f'{i}.png' for i in range(9)]
    for p in paths[:2]: p.write_bytes(encode(gray, 'PNG'))
    for p in paths[2:]: p.write_bytes(b'')
    with pytest.raises(DataError, match='7 of 9 images') as e: check_readable(pd.DataFrame({'path':paths}))
    assert str(e.value).count('is empty')==5
    assert len(check_readable(pd.DataFrame({'path':paths[:2]})))==2

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
    ('scan,label\na.png,1\n', 'no column is called path.*--path-col COL .*scan', {}),
    ('path,lable\na.png,1\n', "unknown column 'label'; did you mean lable", {}),
    ('path,label\na.png,1\n', "unknown column 'pid'.*--patient COL", dict(patient='pid')),
    ('path,label\na.png,1\n', "--eye COL", dict(eye='side')),
    ('path,label\na.png,1\n', "--path-col COL", dict(path_col='file')),
    ('path,label\nx.png,1\ny.png,1\na.png,0\n', '2 of 3 image files are not in .*--images DIR.*x.png, y.png', {}),
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

# --- cards, phantoms, open_data --------------------

def drawn(to, patients=80, seed=0):
    for k in range(patients):
        c,p = reading._kermany[k%4],10_000*seed+k+1
        touch(to, f'OCT2017/train/{c}/{c}-{p}-1.jpeg', f'OCT2017/test/{c}/{c}-{p}-2.jpeg')
    write_json(Path(to)/'PROVENANCE.json', dict(source='phantom', name='kermany2018', patients=patients, seed=seed,
        library_version=__version__))

@pytest.fixture
def nobody(tmp_path, monkeypatch):
    "An empty home without credentials, and phantoms that cost nothing"
    for k in list(os.environ):
        if k.startswith(('KAGGLE','XDG')): monkeypatch.delenv(k)
    for k in ('HOME','USERPROFILE'): monkeypatch.setenv(k, str(tmp_path/'home'))
    monkeypatch.setenv('FUNDUS_HOME', str(tmp_path/'data'))
    monkeypatch.setattr(cards['kermany2018'], 'phantom', drawn)
    return tmp_path

def test_cards():
    assert {'kermany2018','folder','csv'} <= set(catalog().index)
    assert 'paultimothymooney/kermany2018' in str(get_card('kermany2018'))
    assert '<table>' in get_card('kermany2018')._repr_html_()
    with pytest.raises(EyeError, match='did you mean kermany2018'): get_card('kermany208')

def test_make_phantom(nobody):
    d = make_phantom('kermany2018', nobody/'p', patients=8, seed=2)
    df = read_dataset('kermany2018', d)
    assert df.attrs['source']=='phantom' and df.patient.nunique()==8 and df.patient.astype(int).min()==20_001
    assert make_phantom('kermany2018', d, patients=8, seed=2)==d
    with pytest.raises(DataError, match='no phantoms of csv'): make_phantom('csv', nobody/'q')

def test_phantom_is_told_through_a_csv(nobody):
    d = make_phantom('kermany2018', nobody/'p', patients=4)
    df = read_dataset('kermany2018', d)
    df.to_csv(nobody/'mine.csv', index=False)
    assert read_dataset('csv', nobody/'mine.csv').attrs['source']=='phantom'

def test_auto_without_credentials_draws_with_a_banner(nobody, capsys):
    df = open_data('kermany2018', patients=8)
    err = capsys.readouterr().err
    assert df.attrs['source']=='phantom' and 'PHANTOM DATA' in err and 'no Kaggle credentials' in err
    assert open_data('phantom', patients=8).path.tolist()==df.path.tolist()
    assert 'PHANTOM DATA' in capsys.readouterr().err
    for args in [(df.attrs['root'],), ('kermany2018', df.attrs['root'])]:
        open_data(*args)
        assert 'PHANTOM DATA' in capsys.readouterr().err

def test_auto_never_hides_a_failed_download(nobody, monkeypatch, capsys):
    monkeypatch.setenv('KAGGLE_API_TOKEN', 'KGAT_x')
    def fail(*a, **k): raise DownloadError('403 from Kaggle')
    monkeypatch.setattr(opened, 'download', fail)
    with pytest.raises(DownloadError, match='403'): open_data('kermany2018')
    assert 'PHANTOM' not in capsys.readouterr().err and not (nobody/'data').exists()

def test_kaggle_without_credentials_is_an_error(nobody):
    with pytest.raises(DownloadError, match='no Kaggle credentials'): open_data('kermany2018', 'kaggle')

def test_auto_uses_a_finished_download(nobody, capsys):
    r = touch(nobody/'data/kermany2018', 'OCT2017/train/CNV/CNV-1-1.jpeg')
    write_json(r/'PROVENANCE.json', {'source':'kaggle','name':'kermany2018','kaggle':'paultimothymooney/kermany2018',
        'kind':'dataset'})
    assert open_data('kermany2018').attrs['source']=='kaggle' and 'PHANTOM' not in capsys.readouterr().err

def test_open_paths(nobody):
    touch(nobody/'mine', 'A/1.png', 'B/2.png')
    (nobody/'mine/t.csv').write_text('file,patient,x\nA/1.png,p,0\nB/2.png,q,1\n')
    assert open_data(nobody/'mine').attrs['source']=='local'
    assert open_data(str(nobody/'mine/t.csv'), label='x', patient=None).label.tolist()==['0','1']
    for name,why in {'kermani':'did you mean kermany2018', 'no/where':'does not exist', 'no.csv':'does not exist',
        'folder':'a kind of data'}.items():
        with pytest.raises(EyeError, match=why): open_data(name)
    with pytest.raises(DataError, match='--path-col tells how to read a CSV'): open_data(nobody/'mine', path_col='x')

# --- splits --------------------

@st.composite
def frames(draw):
    n,k = draw(st.integers(5,40)),draw(st.integers(2,5))
    r = np.random.default_rng(draw(st.integers(0,10**6)))
    p = r.dirichlet(np.full(k, draw(st.sampled_from([.3,1.,10.]))))
    rows = [(f'/d/{i}-{j}.png', f'p{i}', 'abcde'[r.choice(k, p=p)]) for i in range(n) for j in range(r.integers(1,
        draw(st.integers(2,5))))]
    return pd.DataFrame(rows, columns=['path','patient','label'])

@settings(max_examples=60, deadline=None)
@given(frames(), st.integers(0,5), st.sampled_from([(.2,.2),(.1,.3),(0,.25),(.25,0),(.4,.4)]))
def test_split_properties(df, seed, shares):
    valid,test = shares
    if df.label.nunique()<2:
        with pytest.raises(DataError): split_patients(df, valid, test, seed=seed)
        return
    s = split_patients(df, valid, test, seed=seed)
    sides = ['train'] + ['valid']*(valid>0) + ['test']*(test>0)
    assert (s.groupby('patient').split.nunique()==1).all() and set(s.split) <= set(sides)
    assert s.drop(columns='split').equals(df)
    assert set(s[s.split=='train'].label)==set(df.label)
    n = s.drop_duplicates('patient').split.value_counts()
    for k,v in (('valid',valid),('test',test)): assert abs(n.get(k,0)-v*n.sum()) <= max(3, df.label.nunique())
    strata = patient_strata(df)
    for c,g in strata.groupby(strata):
        if len(g)>=len(sides): assert set(s[s.patient.isin(g.index)].split)==set(sides)
    again = split_patients(df.sample(frac=1, random_state=seed), valid, test, seed=seed).sort_index()
    assert again.split.equals(s.split)

def test_every_class_on_each_side():
    r = np.random.default_rng(1)
    for seed in range(20):
        rows = [(f'/{i}-{j}', f'p{i}', r.choice(['A']*12+['B']*5+['C'])) for i in range(120) for j in range(3)]
        df = pd.DataFrame(rows, columns=['path','patient','label'])
        n = df.groupby('label').patient.nunique()
        s = split_patients(df, seed=seed)
        assert all(s[s.label==c].split.nunique()==3 for c in n.index[n>=3])

def test_numbers_are_binned():
    df = pd.DataFrame({'path':[f'/{i}' for i in range(100)], 'patient':[f'p{i}' for i in range(100)],
        'age':np.linspace(20,90,100)})
    m = split_patients(df, by='age').groupby('split').age.agg(['mean','size'])
    assert m['size'].to_dict()=={'train':60,'valid':20,'test':20} and (m['mean']-55).abs().max()<6

@pytest.mark.parametrize('df,kw,why', [
    (pd.DataFrame({'patient':['a','b'], 'label':['x','y']}), {}, '2 patients are too few'),
        (pd.DataFrame({'patient':['a','b'], 'label':['x','x']}), {}, 'nothing to tell apart'),
    (pd.DataFrame({'patient':['a','a'], 'label':['x','y']}), {}, 'one patient'), (pd.DataFrame({'patient':['a',None,
        'c'], 'label':['x','y','y']}), {}, '1 of 3 rows have no patient'),
    (pd.DataFrame({'patient':list('abcd'), 'label':list('xyxy')}), dict(valid=.6, test=.4), 'must leave some'),
        (pd.DataFrame({'patient':list('abcd'), 'label':list('xyxy')}), dict(by='sex'), "no column 'sex'")])
def test_split_refused(df, kw, why):
    with pytest.raises(DataError, match=why): split_patients(df, **kw)

def test_leaks_are_named():
    df = pd.DataFrame({'patient':['p20','p07','p11']*2+['p01'], 'split':['train']*3+['valid']*3+['test']})
    with pytest.raises(LeakError, match='^3 patients occur in both train and valid: p07, p11, p20$'): check_split(df)
    many = pd.DataFrame({'patient':[f'p{i:02}' for i in range(12)]*2, 'split':['train']*12+['test']*12})
    with pytest.raises(LeakError, match=r'12 patients occur in both train and test: .*p09, \.\.\.$'): check_split(many)
    with pytest.raises(LeakError, match='1 patient occurs'): check_split(df[~df.patient.isin(['p07','p11'])])

@pytest.fixture
def clinic(): return pd.DataFrame([(f'/data/x/{i}-{j}.png', f'p{i}', None,
    'AB'[i%2]) for i in range(20) for j in range(2)], columns=['path','patient','eye','label'])

def test_save_and_read_split(clinic, tmp_path):
    s = split_patients(clinic)
    f = save_split(s, tmp_path/'split.csv', '/data')
    t = pd.read_csv(f)
    assert t.columns.tolist()==['path','patient','eye','split','label'] and not t['path'].str.startswith('/').any()
    moved = clinic.assign(path=clinic.path.str.replace('/data', '/mnt/other')).sample(frac=1, random_state=0)
    r = read_split(f, moved, '/mnt/other')
    assert r.sort_index().split.tolist()==s.split.tolist() and split_hash(r, '/mnt/other')==split_hash(s, '/data')
    assert split_hash(split_patients(clinic, seed=7), '/data')!=split_hash(s, '/data')
    with pytest.raises(DataError, match='1 of 40 images in .* are not in the data: x/0-0.png'): read_split(f,
        clinic[1:], '/data')
    with pytest.raises(DataError, match='1 of 41 images are not in'): read_split(f, pd.concat([clinic,
        clinic[:1].assign(path='/data/new.png')]), '/data')
    with pytest.raises(DataError, match='disagree on the patient of 2 of 40'): read_split(f,
        clinic.assign(patient=clinic.patient.replace('p3','p4')), '/data')
    pd.read_csv(f)[['path','split']].to_csv(tmp_path/'bare.csv', index=False)
    assert read_split(tmp_path/'bare.csv', clinic, '/data').split.tolist()==s.split.tolist()
    with pytest.raises(LeakError): read_split(tmp_path/'bare.csv', clinic.assign(patient='p0'), '/data')

@pytest.mark.parametrize('text,why', [('', 'not a readable CSV'), ('path,side\na,b\n', 'lacks the column split'),
    ('path,split\na,dev\n', "unknown split 'dev' of a"), ('path,split\na,train\na,test\n',
        'names files more than once: a')])
def test_bad_split_file(clinic, tmp_path, text, why):
    (tmp_path/'s.csv').write_text(text)
    with pytest.raises(DataError, match=why): read_split(tmp_path/'s.csv', clinic, '/data')
    with pytest.raises(DataError, match='does not exist'): read_split(tmp_path/'no.csv', clinic, '/data')

def test_published(clinic):
    leaky = clinic.assign(split=['train','test']*20)
    with pytest.raises(LeakError, match='published split leaks: 20 patients'): published_split(leaky)
    assert published_split(leaky, allow_leak=True) is leaky
    with pytest.raises(DataError, match='brings no split'): published_split(clinic)

# --- real images --------------------

@real
def test_real_kermany_samples():
    df = read_kermany(Path(REAL)/'kermany_samples')
    assert sorted(df.label)==['CNV','DME','DRUSEN','NORMAL'] and {'15307','53018','1384'} <= set(df.patient)
    assert not len(check_images(df.path)) and all(read_image(p).ndim==2 for p in df.path)

@real
def test_real_oct_dme():
    df = open_data(Path(REAL)/'oct_dme/labels.csv', label='DME', patient='patient_id')
    assert (len(df), df.patient.nunique(), set(df.label), set(df.eye)) == (709, 527, {'0','1'}, {'L','R'})
    s = check_split(split_patients(df))
    assert s.groupby('split').label.nunique().tolist()==[2,2,2] and not len(check_images(df.path))

def test_the_same_file_under_two_patients_ties_them(tmp_path, capsys):
    "Byte-identical files keep their patients on one side; dealt without a look at the files they part on some seeds"
    rng = np.random.default_rng(0)
    for i in range(20): Image.fromarray(rng.integers(0, 255, (8,8), dtype=np.uint8)).save(tmp_path/f'{i}.png')
    shutil.copy(tmp_path/'3.png', tmp_path/'9.png')
    df = pd.DataFrame(dict(path=[str(tmp_path/f'{i}.png') for i in range(20)], patient=[f'p{i:02}' for i in range(20)],
                           eye=None, label=['a','b']*10))
    df.attrs['root'] = str(tmp_path)
    def parted(f): return [seed for seed in range(8) if f(df, seed=seed).set_index('patient').split[['p03','p09']].nunique()>1]
    assert parted(split_patients) and not parted(split_frame)
    assert 'the same: 1; their 2 patients are kept' in capsys.readouterr().err
