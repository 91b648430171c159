"Class folders, Kermany's layouts and CSVs: as they come, and as they must not"
from pathlib import Path
import os, time
import pandas as pd, pytest
from fundus_fastai.core import DataError
from fundus_fastai.image.read import check_images, read_image
from fundus_fastai.data import read as data_read
from fundus_fastai.data.read import read_csv, read_folder, read_kermany, read_table
from fundus_fastai.data.catalog import check_trainable
from fundus_fastai.data.splits import relative_paths
from fundus_fastai.run.check import Check
from made import eyes, touch

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
    for o in ('1 of 4 images do not tell', 'named for another class', '1 of 5 images lie outside the folders of splits and classes', 'odd.jpeg'):
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
    with pytest.raises(DataError, match='no class folders.* or name a CSV that lists them, with columns path, label and patient'): read_folder(touch(tmp_path/'a', 'x.png'))
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
    ('\t\n\t', 'is empty', {}),
    ('\x0b', 'is empty', {}),
    ('sep=;\n', 'not a readable CSV', {}),
    ('path,label\na.png,1\nb.png,"'+'x'*2**21, 'more than a million letters in line 3', {}),
    ('path,label'+','*20_000+'\na.png,1\n', 'has 20,002 columns in its first line', {}),
    ('path,label\na.png,1,2\n', 'more fields', {}),
    ('path,label\na.png,1\nb.png,1,2,3\n', 'not a readable CSV', {}),
    ('scan,label\na.png,1\n', 'no column is called path.*`path_col=COL` .*scan', {}),
    ('path,lable\na.png,1\n', "unknown column 'label'; did you mean lable", {}),
    ('path,label\na.png,1\n', "unknown column 'pid'.*`patient=COL`", dict(patient='pid')),
    ('path,label\na.png,1\n', "`eye=COL`", dict(eye='side')),
    ('path,label\na.png,1\n', "`path_col=COL`", dict(path_col='file')),
    ('path,label\nx.png,1\ny.png,1\na.png,0\n', '2 of 3 image files are not in images: x.png, y.png.*`images=DIR`', {}),
    ('path,label\na.png,1\n', '1 of 1 image files', dict(images='/no/such')),
    ('path,label\na.png,\n', "'label' is empty", {}),
    ('path,label\n,1\na.png,0\n', r"1 of 2 rows have no 'path' \(row 2\)", {}),
    ('path,label,patient\na.png,1,p\nb.png,0,NaN\n', r"1 of 2 rows have no 'patient' \(row 3\)", {})]

@pytest.mark.parametrize('text,why,kw', REFUSED)
def test_csv_refused(shop, text, why, kw):
    with pytest.raises(DataError, match=why) as e: read_csv(t := shop(text), **kw)
    assert 't.csv' in str(e.value) and str(e.value).count(str(Path(t).parent))==1, 'its path stands once'

@pytest.mark.parametrize('name,why', [('OCTID.zip','is an archive: unpack it'), ('x.tar.gz','is an archive'), ('X.7Z.001','is an archive'),
                                      ('eye.JPG','is an image: name its folder'), ('eye.dcm','is an image')])
def test_an_archive_or_an_image_is_no_table(tmp_path, name, why):
    "It was told to be exported as CSV"
    (tmp_path/name).write_bytes(b'PK\0')
    with pytest.raises(DataError, match=f'{name} {why}'): read_csv(tmp_path/name)

def test_csv_absent(tmp_path):
    with pytest.raises(DataError, match='no.csv does not exist'): read_csv(tmp_path/'no.csv')
    with pytest.raises(DataError, match='cannot be read'): read_csv(tmp_path)

def test_demand_trainable():
    df = pd.DataFrame({'patient':['p','p','q'], 'label':['0','1','1']})
    assert check_trainable(df) is df
    with pytest.raises(DataError, match='every image has the label 1'): check_trainable(df[1:])
    with pytest.raises(DataError, match=r'one patient \(p\)'): check_trainable(df[:2])

# --- as people have them --------------------

def test_what_lies_there_and_is_not_read_is_told(tmp_path, capsys):
    touch(tmp_path, 'A/1.png', 'B/2.png', 'B/3.nii', 'B/5.nii', 'C/4.fda', '@eaDir/x.bin', '.ipynb_checkpoints/1.txt', 'notes.txt')
    (tmp_path/'DME').mkdir()
    (tmp_path/'linked').symlink_to(tmp_path/'A')
    assert set(read_folder(tmp_path).label)=={'A','B'}
    err = capsys.readouterr().err
    for o in ('2 kinds of files that we do not read: 2 .nii, 1 .fda', '2 folders without images: C, DME', '1 links to where we have been: linked'):
        assert f'not used: {o}' in err, err

def test_look_alike_folders_are_one_class(tmp_path, capsys):
    touch(tmp_path, *(f'{s}/{k}.png' for s in ('train/Drusen','test/drusen','train/normal','test/normal ','train/New folder') for k in range(3)))
    assert set(read_folder(tmp_path).label)=={'Drusen','normal'}
    err = capsys.readouterr().err
    assert "'drusen' (3) as 'Drusen'" in err and '3 of 15 images lie in folders that name no class' in err

def test_folders_of_patients_are_refused(tmp_path):
    for root,files in {'a':['patient01/x.jpg','patient02/x.jpg'], 'b':['anna/OD.jpg','anna/OS.jpg','otto/OD.jpg'], 'c':['00001/visit1_OD.jpg','00012/visit1_OD.jpg']}.items():
        with pytest.raises(DataError, match='no class folders, but folders of patients'): read_folder(touch(tmp_path/root, *files))

def test_sides_of_a_split_are_no_classes(tmp_path):
    for root,names in {'a':('train_images','test_images'), 'b':('Training Set','Validation Set'), 'c':('train images',), 'd':('a. Training Set','b. Testing Set')}.items():
        files = [f'{o}/{k}.png' for o in names for k in range(2)]
        with pytest.raises(DataError, match='no class folders, but sides of a split'): read_folder(touch(tmp_path/root, *files))
    assert set(read_folder(touch(tmp_path/'e', 'test_images/1.png', 'drusen/2.png')).label)=={'test_images','drusen'}

PARTS = dict(heimed=('images','masks'), hrf=('images','manual1','mask'), drive=('training/images','training/1st_manual','test/images','test/mask'),
    hrf_av=('images','fov','masks_av'), fives=('train/Original','train/Ground truth','test/Original'), idrid=('2. All Segmentation Groundtruths','1. Original Images'))
@pytest.mark.parametrize('kind', PARTS)
def test_masks_are_no_classes(tmp_path, kind):
    files = [f'{o}/{k}.png' for o in PARTS[kind] for k in range(2)]
    with pytest.raises(DataError, match='no class folders, but photographs, masks and the like .*write a table'): read_folder(touch(tmp_path, *files))

def test_the_table_beside_masks_is_named(tmp_path):
    touch(tmp_path, 'images/1.png', 'masks/1.png', 'boxes.csv', '._labels.csv', 'labels.csv')
    with pytest.raises(DataError, match='name the table that lies there: .*/labels.csv$'): read_folder(tmp_path)

def test_names_tell_patient_and_eye(tmp_path):
    touch(tmp_path, 'normal/10_left.jpeg', 'ill/10_right.jpeg', 'ill/A7-OD.png', 'ill/IMG-left.png')
    df = read_folder(tmp_path).set_index('path').rename(os.path.basename)
    assert df.patient.to_dict()=={'10_left.jpeg':'10', '10_right.jpeg':'10', 'A7-OD.png':'A7', 'IMG-left.png':'ill/IMG-left.png'}
    assert df.eye.to_dict()=={'10_left.jpeg':'L', '10_right.jpeg':'R', 'A7-OD.png':'R', 'IMG-left.png':None}

def test_dates_of_exams_do_not_make_people(tmp_path, capsys):
    "One person at two visits is one, in whatever way the day is written; a day and an eye are nobody"
    touch(tmp_path, 'DR/00005_20210305_OD.png', 'normal/00005_20230514_OD.png', 'DR/2021-03-06_7_OS.png', 'normal/7_OD_06.03.2023.png',
          'DR/20210305_OD.png', 'normal/20210305_OD.png', 'normal/20210305_OS.png', 'DR/12345678_OD.png')
    df = read_folder(tmp_path).set_index('path').rename(os.path.basename)
    at = [f'{o}/20210305_OD.png' for o in ('DR','normal')]
    assert sorted(df.patient)==sorted(['00005']*2+['7']*2+[*at, 'normal/20210305_OS.png', '12345678'])
    assert df.eye.tolist()==['L' if 'OS' in o else 'R' for o in df.index]
    err = capsys.readouterr().err
    assert 'patients are read from names, without dates and visits: 00005 of 00005_20210305_OD.png, 7 of 2021-03-06_7_OS.png' in err and '3 of 8 images do not tell' in err

def test_visits_do_not_make_people(tmp_path, capsys):
    "A number that may be a visit's is told, and not cut"
    touch(tmp_path, *(f'DR/P00{k}_V{v}_OD.png' for k in (1,2) for v in (1,2)), 'normal/P001_OS_visit 3.png', 'normal/V7_OD.png', 'normal/A1_fu2_L.png')
    df = read_folder(tmp_path)
    assert sorted(df.patient)==['A1']+['P001']*3+['P002']*2+['V7'] and df.eye.notna().all()
    assert 'without dates and visits: P001 of P001_V1_OD.png' in (err := capsys.readouterr().err) and 'whole' not in err
    df = read_folder(touch(tmp_path/'b', *(f'b/{p}_{v}_OD.png' for p in (70012,70013) for v in (1,2)), 'a/1_2_OD.png'))
    assert df.patient.nunique()==5 and 'names, whole (write a table if their ends are visits): 70012_1 of 70012_1_OD.png' in (err := capsys.readouterr().err) and ' 1_2 ' not in err

def test_names_that_stand_in_two_class_folders_are_one_patient_and_told(tmp_path, capsys):
    df = read_folder(touch(tmp_path, 'DR/1_OD.png', 'normal/1_OD.png', 'normal/2_OD.png', 'DR/2_OS.png'))
    assert sorted(df.patient)==[*'1122'] and "2 of 4 images have names that stand in several folders" in capsys.readouterr().err

def test_a_table_beside_a_tree(tmp_path, capsys):
    touch(tmp_path, *(f'{c}/{c.lower()}_{k}_{j}.jpg' for c in ('AMD','NO') for k in range(2) for j in (1,2)))
    (tmp_path/'other.csv').write_text('a,b\n1,2\n')
    assert read_folder(tmp_path).patient.nunique()==8 and 'not used: ' in capsys.readouterr().err
    rows = [f'{c.lower()}_{k}_{j},{c},{c}{k}' for c in ('AMD','NO') for k in range(2) for j in (1,2)]
    (tmp_path/'OCTDL_labels.csv').write_text('\n'.join(['file_name,disease,patient_id',*rows]))
    assert read_folder(tmp_path).patient.nunique()==4 and "tells the patients of 8 of 8 images" in capsys.readouterr().err
    df = read_csv(tmp_path/'OCTDL_labels.csv', label='disease')
    assert len(df)==8 and df.patient.nunique()==4 and all(map(os.path.isfile, df.path))

@pytest.mark.parametrize('name,sep', [('PATIENTS.CSV',','), ('patients.tsv','\t')])
def test_a_table_beside_a_tree_in_capitals_or_with_tabs(tmp_path, name, sep):
    touch(tmp_path, 'AMD/1.png', 'AMD/2.png', 'NO/3.png')
    (tmp_path/name).write_text('file,patient\n1.png,P1\n2.png,P1\n3.png,P2\n'.replace(',', sep))
    assert read_folder(tmp_path).patient.tolist()==['P1','P1','P2']

def test_a_table_beside_a_tree_of_equal_names(tmp_path, capsys):
    "A name is looked for with its folder; where that does not decide, it tells nobody's patient"
    touch(tmp_path, *(f'{c}/{k}.png' for c in ('AMD','NO') for k in ('000','001')))
    rows = ['AMD/000.png,P001', 'AMD/001.png,p1', 'NO/000.png,Q7', 'NO/001.png,unknown']
    (tmp_path/'t.csv').write_text('\n'.join(['file,patient',*rows]))
    df = read_folder(tmp_path).set_index('path').rename(lambda p: os.path.relpath(p, tmp_path))
    assert df.patient.to_dict()=={'AMD/000.png':'P001', 'AMD/001.png':'P001', 'NO/000.png':'Q7', 'NO/001.png':'NO/001.png'}
    (tmp_path/'t.csv').write_text('file,patient\n000.png,P1\nAMD/001.png,P2\n')
    df,err = read_folder(tmp_path).set_index('path').rename(lambda p: os.path.relpath(p, tmp_path)),capsys.readouterr().err
    assert df.patient['AMD/001.png']=='P2' and df.patient['AMD/000.png']=='AMD/000.png' and '000.png may be one of several' in err
    (tmp_path/'t.csv').write_text('file,patient\nAMD/001.png,P1\nAMD/001.png,P2\n')
    with pytest.raises(DataError, match='tells two patients of'): read_folder(tmp_path)

WRITTEN = {'a.JPG':'x/a.jpg', 'a':'x/a.jpg', 'a.jpeg':'x/a.jpg', 'C:\\\\scans\\\\x\\\\a.jpg':'x/a.jpg', '/home/anna/x/a.jpg':'x/a.jpg',
    '7.png':'x/007.png', 'é.png':'x/e\u0301.png', 'y/b.png':'y/b.png', 'z/x/b.png':'x/b.png'}

@pytest.mark.parametrize('name', WRITTEN)
def test_files_written_otherwise(tmp_path, name, capsys):
    touch(tmp_path, 'x/a.jpg', 'x/007.png', 'x/e\u0301.png', 'x/b.png', 'y/b.png')
    (tmp_path/'t.csv').write_text(f'file,label\n{name},1\n', encoding='utf-8')
    assert read_csv(tmp_path/'t.csv').path.tolist()==[str(tmp_path/WRITTEN[name])]
    assert ('written otherwise' in capsys.readouterr().err)==(name!='y/b.png')

TAKEN = {'the other folder':(['A/img1.png','A/img2.png','B/img2.png'], ['A/img2.png','B/img1.png','B/img2.png'], 'B/img1.png'),
    'the other eye':(['right/001.png','left/002.png'], ['left/001.png','right/001.png','left/002.png'], 'left/001.png'),
    'the other eye alone':(['right/001.png'], ['left/001.png','right/001.png'], 'left/001.png'),
    'a mask':(['images/001.png','masks/003.tif'], ['images/001.png','images/003.png'], 'images/003.png'),
    'another person of a day':(['00005/2021-03-05/OD.png','00006/2021-03-06/OD.png'], ['00077/2021-03-05/OD.png','00006/2021-03-06/OD.png'], '00077/2021-03-05/OD.png'),
    'another person of a year, alone':(['a/p12/2021/OD.png'], ['b/p99/2021/OD.png'], 'b/p99/2021/OD.png'),
    'the only person there':(['Export/0012/OD.png'], ['13/OD.png'], '13/OD.png'),
    'another name':(['Export/eva/OD.png'], ['anna/OD.png'], 'anna/OD.png'),
    'the person left over':(['Export/0011/OD.png','Export/0012/OD.png'], ['Export/0011/OD.png','13/OD.png'], '13/OD.png')}
@pytest.mark.parametrize('kind', TAKEN)
def test_a_missing_file_is_not_replaced(tmp_path, kind):
    "by one that another row names, or by one of another folder where its own is there"
    files,names,lost = TAKEN[kind]
    touch(tmp_path, *files)
    (tmp_path/'t.csv').write_text('\n'.join(['file,label', *(f'{o},{k%2}' for k,o in enumerate(names))]))
    with pytest.raises(DataError, match=f'1 of {len(names)} image files are not in its folder: {lost}'): read_csv(tmp_path/'t.csv')

@pytest.mark.parametrize('there', [[], ['a.png']])
def test_who_lacks_some_files_is_sent_to_check(tmp_path, there):
    "Another folder is no remedy for one file of many"
    touch(tmp_path, *there)
    (tmp_path/'t.csv').write_text('file,label\na.png,x\nb.png,y\n')
    with pytest.raises(DataError, match='name another folder') as e: read_csv(tmp_path/'t.csv')
    assert ('see what `fundus check` makes of it' in str(e.value))==bool(there)

PLACES = {'zeros that a spreadsheet cut':(['Export/0012/OD.png','Export/0013/OD.png'], ['12/OD.png','13/OD.png']),
    'another computer':(['0012/OD.png','0013/OD.png'], ['D:\\export\\0012\\OD.png','D:\\export\\0013\\OD.png']),
    'another computer and a folder round all':(['images/0012/1/OD.png','images/0013/1/OD.png'], ['/data/export/0012/1/OD.png','/data/export/13/1/od.PNG']),
    'an unknown folder':(['new/a1.png','new/sub/b1.png'], ['old/a1.png','old/b1.png']),
    'one name at two depths':(['x/b.png','z/x/b.png'], ['/home/x/b.png','/home/z/x/b.png'])}
@pytest.mark.parametrize('kind', PLACES)
def test_folders_written_otherwise(tmp_path, kind):
    files,names = PLACES[kind]
    touch(tmp_path, *files)
    (tmp_path/'t.csv').write_text('\n'.join(['file,label', *(f'{o},{k%2}' for k,o in enumerate(names))]))
    assert read_csv(tmp_path/'t.csv').path.tolist()==[str(tmp_path/o) for o in files]

@pytest.mark.parametrize('col,a,b', [('eye','L','R'), ('split','train','test')])
def test_rows_of_a_file_may_not_contradict(tmp_path, col, a, b):
    "in eye or side; what one leaves empty is filled in"
    touch(tmp_path, '0.png', '1.png')
    def read(*rows):
        (tmp_path/'t.csv').write_text('\n'.join([f'file,label,patient,{col}', *rows]))
        return read_csv(tmp_path/'t.csv')
    with pytest.raises(DataError, match=f'0.png is X {a} .patient p. and X {b} .patient p.'): read(f'0.png,X,p,{a}', f'0.png,X,p,{b}', f'1.png,Y,q,{a}')
    df = read('0.png,X,p,', f'0.png,X,p,{b}', f'1.png,Y,q,{a}')
    assert df[col].tolist()==[b,a]

def test_names_that_are_not_utf8(tmp_path):
    touch(tmp_path, 'AMD/a.png', 'NO/b.png')
    try: os.rename(bytes(tmp_path/'AMD/a.png'), bytes(tmp_path/'AMD')+b'/M\xfcller.png')
    except OSError: pytest.skip('this disk has only UTF-8 names')
    with pytest.raises(DataError, match='1 file names are not UTF-8, as .*/Müller.png: rename'): read_folder(tmp_path)

def test_names_without_suffix_list_a_folder_once(tmp_path, monkeypatch):
    touch(tmp_path, *(f'images/{k}.png' for k in range(40)))
    (tmp_path/'t.csv').write_text('\n'.join(['file,label', *(f'{k},{k%2}' for k in range(40))]))
    asked,real = [],os.path.isfile
    monkeypatch.setattr(os.path, 'isfile', lambda p: asked.append(p) or real(p))
    assert read_csv(tmp_path/'t.csv').path.tolist()==[str(tmp_path/f'images/{k}.png') for k in range(40)]
    assert len(asked)<10*40, 'as many as 44 suffixes were looked for one by one'

def test_files_that_may_be_several(tmp_path):
    touch(tmp_path, 'x0.tif', 'x0.png', 'a/b.png', 'c/b.png', 'image_12.png')
    for name,why in {'x0':r'x0 may be x0\.png or x0\.tif', 'b.png':'b.png may be a/b.png or c/b.png', 'imagee_12':'imagee_12 is like image_12.png'}.items():
        (tmp_path/'t.csv').write_text(f'file,label\n{name},1\n')
        with pytest.raises(DataError, match=why): read_csv(tmp_path/'t.csv')

@pytest.mark.parametrize('col', ['Patient ID','patient-id','PATIENT','subject_id','pid','MRN','Participant'])
def test_columns_of_patients(shop, col):
    df = read_csv(shop(f'Path,LABEL,{col}\na.png,0,p\nb.png,1,p\nc.png,1,P \n'))
    assert set(df.patient)=={'p'} and not df.attrs['alone']

def test_likely_patients_are_named(shop, capsys):
    assert read_csv(shop('path,label,code\na.png,0,u\nb.png,1,u\nc.png,1,v\n')).attrs['alone']
    assert "perhaps 'code' (2 values in 3 rows)" in capsys.readouterr().err
    assert not read_csv(shop('path,label\na.png,0\nb.png,1\n'), patient='none').attrs['alone']
    assert 'no patient column' not in capsys.readouterr().err

def test_names_tell_the_patients_of_a_table(tmp_path, capsys):
    "as they do those of class folders, if all do and no column does"
    files = [f'{k}_{o}' for k in (10,11) for o in ('left','right')]
    touch(tmp_path, *(f'{o}.png' for o in files), 'x.png')
    def read(names, cols='', **kw):
        (tmp_path/'t.csv').write_text('\n'.join([f'file,label{cols}', *(f'{o},{k%2}' for k,o in enumerate(names))]))
        return read_csv(tmp_path/'t.csv', **kw), capsys.readouterr().err
    df,err = read(files)
    assert df.patient.tolist()==['10','10','11','11'] and df.eye.tolist()==['L','R']*2 and not df.attrs['alone']
    assert 'patients are read from file names: 10 of 10_left.png' in err
    df,err = read(files, patient='none')
    assert df.patient.nunique()==4 and 'though names look like pairs of eyes, or visits (10_left.png, 10_right.png, ' in err
    df,err = read([*files,'x'])
    assert df.patient.nunique()==5 and df.attrs['alone'] and 'no patient column; each image is taken as its own' in err
    assert 'look like pairs' not in read(files[::2], patient='none')[1] and 'look like pairs' not in read([*files,'x'], patient='none')[1]
    touch(tmp_path, '1/v1_OD.png', '2/v1_OD.png')
    assert read(['1/v1_OD','2/v1_OD'])[0].patient.nunique()==2

def test_look_alike_patients_are_one(shop, capsys):
    df = read_csv(shop('path,label,patient\na.png,0,007\nb.png,1,7\nc.png,1,7.0\nd.png,1,A7\n'))
    assert df.patient.nunique()==2 and 'patients that differ in spelling alone' in capsys.readouterr().err
    read_csv(shop('path,label,patient\na.png,0,1.23457E+11\nb.png,1,1.23457E+11\n'))
    assert '2 of 2 patients are numbers that a spreadsheet has cut' in capsys.readouterr().err

def test_columns_for_subgroups_are_read_at_once(shop, capsys):
    df = read_csv(shop('path,label,Age,Gender,Camera\na.png,0,061Y,F,X1\nb.png,1,>89,m,\nc.png,1,"50,5",?,X2\n'))
    assert df.age.tolist()[::2]==[61,50.5] and pd.isna(df.age[1]) and df.sex.tolist()[:2]==['female','male'] and pd.isna(df.sex[2])
    assert df.camera.tolist()[::2]==['X1','X2'] and pd.isna(df.camera[1])
    assert '1 of 3 ages are no age (>89)' in capsys.readouterr().err
    df = read_csv(shop('path,label,width\na.png,0,512\nb.png,1,wide\n'))
    assert df.width[0]==512 and pd.isna(df.width[1]) and "1 of 2 values of 'width' are no numbers" in capsys.readouterr().err
    df = read_csv(shop('path,label,Alter,age\na.png,0,61,x\nb.png,1,62,y\n'), age='alter')
    assert df.age.tolist()==[61,62] and df.age_csv.tolist()==['x','y']

@pytest.mark.parametrize('text,enc', [('sep=;\npath;label\na.png;0\nb.png;1\n','utf-8'), ('\tpath\tlabel\n0\ta.png\t0\n1\tb.png\t1\n','utf-8')])
def test_first_lines_and_numbered_rows(shop, text, enc):
    df = read_csv(shop(text, enc=enc))
    assert df.columns.tolist()==['path','patient','eye','split','label'] and len(df)==2

@pytest.mark.parametrize('text, label', [('path;label (DR, none)\na.png;0\nb.png;1\n', 'label (DR, none)'), ('path;age, years;DR, y/n\na.png;61,5;0\nb.png;62;1\n', 'DR, y/n'),
                                         ('"path";"label";"note"\na.png;0;"one, two,\nthree"\nb.png;1;""\n', 'label'), ('path\tlabel, or none\na.png\t0\nb.png\t1\n', 'label, or none')])
def test_the_separator_is_what_cuts_all_lines_alike(shop, text, label):
    raw,_ = read_table(shop(text))
    assert raw[label].tolist()==['0','1'] and raw.path.tolist()==['a.png','b.png']

def test_a_column_without_a_heading_is_kept_unless_it_numbers_rows(shop, capsys):
    df = read_csv(shop(',path,label\nP1,a.png,0\nP2,b.png,1\n'), patient='column 1')
    assert df.patient.tolist()==['P1','P2'] and "without a heading is called column 1" in capsys.readouterr().err
    df = read_csv(shop('path,label,\na.png,0,\nb.png,1,\n'))
    assert 'without a heading' not in capsys.readouterr().err and not [o for o in df if o.startswith(('column','Unnamed'))]

def test_headings_that_stand_twice_are_refused(shop):
    "as they are written: pandas would call the second patient.1"
    for sep in ',;\t':
        with pytest.raises(DataError, match='heading patient more than once: rename one'): read_csv(shop(f'path,patient,label,patient\na.png,0,x,P0\n'.replace(',', sep)))
    with pytest.raises(DataError, match='heading image, grade more than once'): read_csv(shop('patient,image,grade,image,grade\n1,a.png,1,b.png,0\n'), label='grade')
    assert read_csv(shop(',Unnamed: 0,path,label,label.1\n0,0,a.png,x,y\n1,1,b.png,x,y\n'))['label.1'].tolist()==['y','y']

def test_columns_of_one_name_in_two_spellings_are_asked_about(shop):
    t = shop('path,label,Patient ID,patient_id\na.png,0,1,P0\nb.png,1,2,P0\n')
    with pytest.raises(DataError, match="'Patient ID', 'patient_id' have one name .*`patient=COL`"): read_csv(t)
    assert set(read_csv(t, patient='patient_id').patient)=={'P0'}
    with pytest.raises(DataError, match="'LABEL', 'Label' have one name .*`label=COL`"): read_csv(shop('path,LABEL,Label\na.png,0,1\n'))
    assert read_csv(shop('path,label,Label\na.png,0,1\n')).label.tolist()==['0']

def test_headings_that_differ_in_a_blank(shop):
    for text in ('path,label,note,note \na.png,0,1,2\n', 'path,label,label \na.png,0,1\n', 'path,label,,column 3\na.png,0,x,y\nb.png,0,x,y\n'):
        with pytest.raises(DataError, match='heading (note|label|column 3) more than once: rename one'): read_csv(shop(text))

def test_one_person_under_two_spellings_in_class_folders(tmp_path, capsys):
    touch(tmp_path, 'A/007_OD.png', 'A/7_OS.png', 'A/8_OD.png', 'B/08_OS.png')
    df = read_folder(tmp_path)
    assert df.patient.nunique()==2 and 'patients' in capsys.readouterr().err

def test_maps_beside_class_folders_are_no_scans(tmp_path, capsys):
    touch(tmp_path, *(f'OCT2017/{s}' for s in SCANS), 'OCT2017/maps/CNV-11-1.png', 'OCT2017/maps/DME-99-1.png', 'OCT2017/overlays/CNV/CNV-11-1.png')
    assert rows(read_kermany(tmp_path))==WANT and '3 of 8 images lie outside the folders of splits and classes' in capsys.readouterr().err

def test_lost_names_are_compared_a_few_times(shop, monkeypatch):
    "Each comparison looks at every file: with thousands of lost names that took minutes"
    asked = []
    monkeypatch.setattr(data_read.difflib, 'get_close_matches', lambda *a: asked.append(a) or [])
    with pytest.raises(DataError, match='image files are not in its folder'):
        read_csv(shop('path,label\n'+''.join(f'{k:012x}.png,{k%2}\n' for k in range(300))))
    assert 0<len(asked)<=20

def test_places_of_images_are_no_spellings(tmp_path):
    "Files that tell no patient are each their own, however alike their names are"
    touch(tmp_path, 'A/x1.png', 'A/x01.png', 'B/X1.png')
    assert read_folder(tmp_path).patient.nunique()==3

def test_windows_1252(shop, tmp_path):
    touch(tmp_path, 'O\u2019N.png')
    assert len(read_csv(shop('path,label\nO\u2019N.png,0\n', enc='cp1252')))==1

@pytest.mark.parametrize('enc', ['utf-16-le','utf-16-be'])
def test_utf_16_without_a_mark(shop, enc):
    "As some databases export it: it had been called a binary file"
    assert read_csv(shop('path;label\na.png;Ödem\nb.png;gesund\n', enc=enc)).label.tolist()==['Ödem','gesund']
    with pytest.raises(DataError, match='binary file'): read_table(shop(b'\xd0\xcf\x11\xe0'+bytes(600)))

def test_words_of_another_code_page_are_shown(shop, capsys):
    "Ödem is ™dem in what MS-DOS wrote: a class of that name went into the net, and nothing showed it"
    read_csv(shop('path;label\na.png;Ödem\nb.png;gesund\n', enc='cp850'))
    assert 'is read as Windows-1252, with ™dem: if that is misspelled' in capsys.readouterr().err

def test_blank_rows_count_and_say_nothing(shop, capsys):
    "Rows are told by their number in the file; rows of separators alone, as spreadsheets leave them, are none"
    bare = shop('path,n,label\na.png,1,0\nb.png,2,?\nc.png,3,1\n')
    t = shop('path,n,label\n\na.png,1,0\n , ,\n,,\nb.png,2,?\n\nc.png,3,1\n,,\n\n', name='u.csv')
    want,df = read_csv(bare, skip_broken=True),read_csv(t, skip_broken=True)
    assert df.drop(columns='path').equals(want.drop(columns='path')) and df.n.tolist()==[1,3] and df.attrs['rows']==3
    assert [o[0] for o in df.attrs['left_out']]==[6] and 'no \'label\'' not in capsys.readouterr().err
    with pytest.raises(DataError, match=r'have no \'path\' \(row 5\)'): read_csv(shop('path,label\n\na.png,0\n\n,1\n'))
    with pytest.raises(DataError, match='column names but no rows'): read_csv(shop('path,label\n\n,\n'))

WIDE = 'MRN,age,image_od,image_os,grade_od,grade_os\n1,60,a.png,b.png,0,2\n2,61,c.png,,1,\n3,62,,d.png,,2\n'
def test_a_row_for_both_eyes_is_read_as_two(shop, capsys):
    df = read_csv(shop(WIDE), label='grade')
    assert df[['patient','eye','label','age']].values.tolist()==[['1','R','0',60], ['1','L','2',60], ['2','R','1',61], ['3','L','2',62]]
    assert [os.path.basename(o)[0] for o in df.path]==['a','b','c','d'] and df.attrs['rows']==4
    assert 'image_od and image_os, grade_od and grade_os' in capsys.readouterr().err

def test_rows_of_both_eyes_are_told_by_their_number(shop):
    t = shop('pid;Left-Fundus;Right-Fundus;label\n1;a.png;b.png;0\n2;no.png;c.png;1\n3;;;1\n4;d.png;;\n')
    with pytest.raises(DataError, match=r"have no 'image' \(row 4\)"): read_csv(t)
    df = read_csv(t, skip_broken=True)
    assert df[['patient','eye','label']].values.tolist()==[['1','R','0'], ['1','L','0'], ['2','R','1']]
    assert [o[0] for o in df.attrs['left_out']]==[5,4,3]
    with pytest.raises(DataError, match=r'grades|0 and 1.*\(row 3\)'): read_csv(shop('pid,image_l,image_r,A,B\n1,a.png,b.png,0,1\n2,c.png,d.png,7,1\n'), label='A,B')

def test_half_of_the_eyes_is_told(shop, capsys):
    df = read_csv(shop('MRN,image_od,image_os,grade_od\n1,a.png,b.png,0\n2,c.png,d.png,1\n'), path_col='image_od', label='grade_od')
    assert len(df)==2 and "images of the other eye, in 'image_os', are not read" in capsys.readouterr().err
    assert len(read_csv(shop('file,photo_l,photo_r,label\na.png,x,y,0\n')))==1 and 'read as two' not in capsys.readouterr().err

def test_labels_that_cannot_be(shop):
    with pytest.raises(DataError, match="a label may not be called 'eye'"): read_csv(shop('path,eye,AMD\na.png,1,0\n'), label='eye,AMD')
    assert read_csv(shop('path,DR,AMD\na.png,1,0\n'), label='DR,DR').attrs['labels']==('DR',)

@pytest.mark.parametrize('names, cells', [('Auge,Geschlecht,Alter,Patientennummer', 'rechts,Frau'), ('Œil,Sexe,Âge,patient', 'droit,femme'),
                                          ('ojo,sexo,edad,paciente', 'derecho,mujer'), ('occhio,sesso,età,paziente', 'destro,femmina')])
def test_columns_in_other_tongues(shop, names, cells):
    "Cells in these tongues were read before their headings were"
    t = read_csv(shop(f'path,label,{names}\na.png,x,{cells},61,p\nb.png,y,{cells},72,q\n'))
    assert [*t.eye, *t.sex, *t.age, *t.patient]==['R','R','female','female',61,72,'p','q']

def test_broken_rows_are_skipped_where_asked(shop, capsys):
    t = shop('path,label,patient\na.png,0,p\nno.png,1,q\nb.png,?,r\nc.png,1,\nd.png,1,s\nd.png,0,s\n')
    with pytest.raises(DataError): read_csv(t)
    df = read_csv(t, skip_broken=True)
    assert df.path.map(os.path.basename).tolist()==['a.png'] and df.attrs['rows']==6
    assert [o[:2] for o in df.attrs['left_out']]==[(4,'b.png'), (5,'c.png'), (3,'no.png'), (6,'d.png'), (7,'d.png')]

# --- real images --------------------

def test_real_kermany_samples(test_data):
    df = read_kermany(test_data/'kermany_samples')
    assert sorted(df.label)==['CNV','DME','DRUSEN','NORMAL'] and {'15307','53018','1384'} <= set(df.patient)
    assert not len(check_images(df.path)) and all(read_image(p).ndim==2 for p in df.path)

# --- tables and folders as clinics have them

def test_a_column_that_may_tell_patients_is_named_beside_names(tmp_path, capsys):
    "A camera numbers its files: each name is a person, unless somebody says whose they are"
    files = [f'IMG_{k:04d}_O{"DS"[k%2]}.png' for k in range(6)]
    touch(tmp_path, *files)
    (tmp_path/'t.csv').write_text('file,label,Chart\n'+''.join(f'{o},{k%2},{k//2}\n' for k,o in enumerate(files)))
    assert read_csv(tmp_path/'t.csv').patient.nunique()==6
    assert "`patient=COL` a column; perhaps 'Chart' (3 values in 6 rows))" in capsys.readouterr().err
    assert read_csv(tmp_path/'t.csv', patient='Chart').patient.nunique()==3

@pytest.mark.parametrize('col', ['Pat-ID','PatNr','Pat.-Nr.','Patienten-Nr.'])
def test_short_names_of_patient_columns(shop, col):
    assert read_csv(shop(f'file,label,{col}\na.png,0,1\nb.png,1,1\nc.png,0,2\n')).patient.tolist()==['1','1','2']

def test_two_columns_of_patients_that_differ_are_told(shop, capsys):
    text = 'file,label,patient,MRN\na.png,0,{},7\nb.png,1,{},7\nc.png,0,3,8\n'
    read_csv(shop(text.format(1, 2)))
    assert "read from 'patient', which parts images that are of one in 'MRN' (1 of 2 there): choose with" in capsys.readouterr().err
    for k in '1','01','1.0': read_csv(shop(text.format(1, k)))
    read_csv(shop(text.format(1, 2)), patient='patient')
    assert 'which parts' not in capsys.readouterr().err

@pytest.mark.parametrize('right,left', [('RE','LE'),('ra','la'),('rechts','links')])
def test_sides_in_names(tmp_path, right, left):
    touch(tmp_path, *(f'{c}/{k}{v}_{o}.png' for k,c in ((10,'DR'),(11,'N')) for v in ('','_V2') for o in (right,left)))
    df = read_folder(tmp_path)
    assert set(df.patient)=={'10','11'} and df.eye.value_counts().to_dict()=={'R':4,'L':4}

def test_folders_that_look_like_patients_are_told(tmp_path, capsys):
    def read(*folders):
        files = [f'{o}/{k}.png' for o in folders for k in ('R','L')]
        touch(tmp_path, *files)
        (tmp_path/'t.csv').write_text('file,label\n'+''.join(f'{o},{k%2}\n' for k,o in enumerate(files)))
        return read_csv(tmp_path/'t.csv').attrs['alone'],capsys.readouterr().err
    alone,err = read('Bilder/Pat 01/2020-01-02', 'Bilder/Pat 02/20200102')
    assert alone and 'the folders look like patients (Pat 01, Pat 02): write them into a column' in err
    assert 'look like patients (Pat 05, Pat 06)' in read('Bilder/Pat 05/Macula', 'Bilder/Pat 06/Disc')[1]
    assert 'look like patients' not in read('x/20200102', 'x/20200103')[1]

@pytest.mark.parametrize('top', ['Aufnahme,,\n', 'Export of our clinic\n\n'])
def test_headings_below_a_title_are_named(shop, top):
    with pytest.raises(DataError, match=r'headings in line \d \(file, patient\): delete the lines above it'):
        read_csv(shop(f'{top}file,patient,label\na.png,1,0\nb.png,2,1\n'))

def test_an_empty_label_column_is_named(shop):
    with pytest.raises(DataError, match="label column B is empty: leave it out"):
        read_csv(shop('file,A,B\na.png,1,\nb.png,0,\n'), label='A,B')

def test_a_label_without_a_no_is_told(shop, capsys):
    read_csv(shop('file,A,B\na.png,1,0\nb.png,,1\nc.png,1,0\n'), label='A,B')
    assert 'no image lacks the label A (no 0 stands there)' in capsys.readouterr().err

# --- links --------------------

def linked(d):
    "A table in a linked folder, the pictures outside of it: the link, and the folder that it points to"
    eyes(d/'far', [f'img/{i}.png' for i in range(4)])
    (d/'far/tables').mkdir()
    os.symlink(d/'far/tables', d/'link')
    return d/'link',d/'far/tables'

@pytest.mark.parametrize('named', ['../img/{}.png', '{d}/far/img/{}.png'])
def test_pictures_outside_of_a_linked_folder(tmp_path, named):
    "A training ended where the maps began: `link/../../img` led elsewhere; names with .. were not found"
    link,real = linked(tmp_path)
    t = pd.DataFrame(dict(path=[named.format(i, d=tmp_path) for i in range(4)], patient=list('abcd'), label=list('xyxy')))
    t.to_csv(real/'t.csv', index=False)
    a,b = (read_csv(o/'t.csv') for o in (link,real))
    far = relative_paths(a)
    assert all((link/o).is_file() for o in far) and far.tolist()==relative_paths(b).tolist()
    Check('t', [], a, None).save(link/'clean')
    assert len(read_csv(link/'clean/cleaned.csv'))==len(read_csv(real/'clean/cleaned.csv'))==4

def test_a_name_that_a_program_wrote_through_a_link_is_found(tmp_path):
    "As Python's `relpath` writes it, which knows of no link"
    link,_ = linked(tmp_path)
    pd.DataFrame(dict(path=['../far/img/0.png'], label=['x'])).to_csv(link/'t.csv', index=False)
    assert read_csv(link/'t.csv', patient='none').path.tolist()==[str(tmp_path/'far/img/0.png')]
