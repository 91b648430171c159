"Fundus sets: every layout, every bad table, ODIR's words, phantoms through the same parsers, cards and competitions"
import os, re
from pathlib import Path
import numpy as np, pandas as pd, pytest
from PIL import Image
from fundus_fastai.core import DataError, DownloadError, LeakError, MissingPackage, read_json
from fundus_fastai.data.read import read_csv
from fundus_fastai.data.odir import read_odir
from fundus_fastai.phantom.fundus import LESION_CODES
from fundus_fastai.data.sets import _papila_eye, DIARET_LESIONS, VIETAI_LABELS, draw_outlines, lesion_masks, read_outlines, read_papila
from fundus_fastai.data.catalog import cards, guess_card, read_dataset
from fundus_fastai.data.kaggle import download
from fundus_fastai.data.load import open_data
from fundus_fastai.data.splits import check_split
from fundus_fastai.explain.lesions import consensus

HEAD = 'ID,Patient Age,Patient Sex,Left-Diagnostic Keywords,Right-Diagnostic Keywords,N,D,G,C,A,H,M,O,filename'

def eye(i, side, left, right, age=60, sex='Female', own='0,1,0,0,0,0,0,0'):
    return f'{i},{age},{sex},{left},{right},{own},{i}_{side}.jpg'
V = 'filename,'+','.join(VIETAI_LABELS)
PAPILA = ['ID,Age,Gender,Diagnosis', ',,,']
RFMID = (('Training_Set/Training_Set','Training','Training'),
         ('Evaluation_Set/Evaluation_Set','Validation','Validation'),
         ('Test_Set/Test_Set','Testing','Test'))

# name -> (tables, images, what the frame is to say: image -> patient, eye, and one column)
SETS = {
    'vietai2020': ({'train.csv': [V,'aa01.jpg,1,0,0,0,0,0,0','bb02.jpg,0,0,0,0,0,0,1']},
        ['train/train/aa01.jpg','train/train/bb02.jpg'], 'opacity', {'aa01':('aa01',None,1), 'bb02':('bb02',None,0)}),
    'eyepacs': ({'trainLabels.csv': ['image,level','10_left,0','10_right,2']},
        ['train/10_left.jpeg','train/10_right.jpeg'], 'grade', {'10_left':('10','L',0), '10_right':('10','R',2)}),
    'aptos2019': ({'train.csv': ['id_code,diagnosis','aa01,3','bb02,0']},
        ['train_images/aa01.png','train_images/bb02.png'], 'grade', {'aa01':('aa01',None,3), 'bb02':('bb02',None,0)}),
    'odir5k': ({'full_df.csv': [HEAD, eye(7,'left','cataract','normal fundus'),
                                eye(7,'right','cataract','normal fundus')]},
        ['preprocessed_images/7_left.jpg','preprocessed_images/7_right.jpg'], 'cataract',
        {'7_left':('7','L',1), '7_right':('7','R',0)}),
    'messidor2': ({'messidor_data.csv': ['image_id,adjudicated_dr_grade,adjudicated_dme,adjudicated_gradable',
                                         'a1.png,0,0,1','b2.png,,,0'],
                   'messidor-2.csv': ['left;right','a1.png;b2.png']},
        ['IMAGES/a1.png','IMAGES/b2.png'], 'quality', {'a1':('pair001','L',''), 'b2':('pair001','R','ungradable')}),
    'idrid': ({'idrid_labels.csv': ['id_code,diagnosis,,','IDRiD_001,3,,','IDRiD_002test,1,,']},
        ['Imagenes/Imagenes/IDRiD_001.jpg','Imagenes/Imagenes/IDRiD_002test.jpg'], 'grade',
        {'IDRiD_001':('idrid_001',None,3), 'IDRiD_002test':('idrid_002test',None,1)}),
    'rfmid': ({f'{f}/RFMiD_{w}_Labels.csv': ['ID,Disease_Risk,DR,MH','1,1,1,0'] for f,w,_ in RFMID},
        [f'{f}/{i}/1.png' for f,_,i in RFMID], 'DR', None),
    'diaretdb1': ({'resources/traindatasets/trainset.txt': ['image001.png'],
                   'resources/testdatasets/testset.txt': ['image002.png']},
        [f'resources/images/ddb1_fundusimages/image00{i}.png' for i in '12'] +
        [f'resources/images/ddb1_groundtruth/{k}/image001.png' for k in DIARET_LESIONS], 'split',
        {'image001':('image001',None,'train'), 'image002':('image002',None,'test')}),
    'papila': ({'ClinicalData/patient_data_od.csv': PAPILA+['#002,47,0,1'],
                'ClinicalData/patient_data_os.csv': PAPILA+['#002,47,0,0']},
        ['FundusImages/RET002OD.jpg','FundusImages/RET002OS.jpg'], 'label',
        {'RET002OD':('002','R','glaucoma'), 'RET002OS':('002','L','healthy')}),
    'ukb': ({}, ['train/female/1000012_21015_0_0.png','val/male/1000027_21016_1_0.png'], 'sex',
        {'1000012_21015_0_0':('1000012','L','female'), '1000027_21016_1_0':('1000027','R','male')})}
FUNDUS = list(SETS)

def write(root, name, upper=False):
    text,images,_,_ = SETS[name]
    for f,lines in text.items():
        f = Path(root)/f; f.parent.mkdir(parents=True, exist_ok=True)
        f.write_text('\n'.join(lines)+'\n', encoding='utf-8')
    for f in images:
        f = Path(root)/f; f.parent.mkdir(parents=True, exist_ok=True)
        (f.with_suffix(f.suffix.upper()) if upper and name!='diaretdb1' else f).touch()
    return Path(root)

def check(df, name):
    _,_,col,want = SETS[name]
    stem = df.path.map(lambda o: Path(o).stem)
    if name=='rfmid': return sorted(zip(df.split, df.DR, df.normal))==[(s,1,0) for s in ('test','train','valid')]
    none = lambda o: None if pd.isna(o) else o
    got = {k:(p,none(e),none(c)) for k,p,e,c in zip(stem, df.patient, df.eye, df[col])}
    assert got==want
    return True

# --- layouts --------------------

LAYOUTS = {'plain':['.'], 'wrapped':['archive'], 'space':['Some Set '], 'deep':['a/b'],
           'twice':['x','y/x '], 'upper':['.']}

@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('name', FUNDUS)
def test_layouts(tmp_path, name, layout, capsys):
    for top in LAYOUTS[layout]: write(tmp_path/top, name, layout=='upper')
    for junk in ('__MACOSX/train/train/._aa01.jpg','.DS_Store','train/._10_left.jpeg'):
        f = tmp_path/junk; f.parent.mkdir(parents=True, exist_ok=True); f.touch()
    df = read_dataset(name, tmp_path)
    assert check(df, name) and df.attrs['name']==name and df.attrs['source']=='local'
    assert isinstance(df.attrs['labels'], tuple)
    assert df.columns[:4].tolist()==['path','patient','eye','split'] and all(os.path.isfile(o) for o in df.path)
    assert all(o in df for o in df.attrs['labels']) and df.path.is_unique
    for o in cards[name].labels: assert o in df
    for o in ('grade','sex','age','label'): assert (o in df) == (o in cards[name].targets), o
    assert guess_card(tmp_path)==name
    assert ('counted once' in capsys.readouterr().err)==(layout=='twice')

@pytest.mark.parametrize('name', FUNDUS)
def test_not_that_set(tmp_path, name):
    with pytest.raises(DataError, match='not a folder|is not '): read_dataset(name, tmp_path/'no')
    with pytest.raises(DataError, match='holds no images|is not '): read_dataset(name, tmp_path)
    (tmp_path/'cat.png').touch()
    with pytest.raises(DataError, match='expected') as e: read_dataset(name, tmp_path)
    assert str(tmp_path) in str(e.value)

@pytest.mark.parametrize('name', [o for o in FUNDUS if o not in ('ukb','diaretdb1')])
def test_packed_archives_are_named(tmp_path, name):
    text,images,_,_ = SETS[name]
    write(tmp_path, name)
    for o in images: (tmp_path/o).unlink()
    for o in ('train.zip.001','train.zip.002'): (tmp_path/o).touch()
    with pytest.raises(DataError, match=r'still packed there: train.zip.001, train.zip.002 \(7z x train'):
        read_dataset(name, tmp_path)

@pytest.mark.parametrize('name', [o for o in FUNDUS if o not in ('ukb','diaretdb1','rfmid')])
def test_partners_are_counted(tmp_path, name, capsys):
    write(tmp_path, name)
    gone = tmp_path/SETS[name][1][0]
    (gone.parent/('extra_99'+gone.suffix)).touch(); gone.unlink()
    df = read_dataset(name, tmp_path)
    err = capsys.readouterr().err
    assert len(df)==1 and '1 of 2 rows have no image' in err and 'extra_99' in err
    assert '1 of 2 images have no row' in err
    (tmp_path/SETS[name][1][1]).unlink()
    with pytest.raises(DataError, match='none of its 2 images is there'): read_dataset(name, tmp_path)

ALONE = [o for o in FUNDUS if o not in ('eyepacs','odir5k','papila','ukb','messidor2')]

@pytest.mark.parametrize('name', FUNDUS)
def test_unknown_patients_are_said_once(tmp_path, name, capsys):
    df = read_dataset(name, write(tmp_path, name))
    assert capsys.readouterr().err.count('does not tell its patients') == (name in ALONE)
    if name in ALONE: assert df.patient.nunique()==len(df)

# --- bad tables --------------------

BAD = [('vietai2020', 'train.csv', [V,'aa01.jpg,2,0,0,0,0,0,0','bb02.jpg,x,0,0,0,0,0,1'],
     "'opacity' is to hold 0 and 1, and holds 2, x"),
    ('vietai2020', 'train.csv', ['filename,opacity,normal','aa01.jpg,1,0'],
     'lacks the columns diabetic retinopathy, glaucoma'),
    ('vietai2020', 'train.csv', [V,'aa01.jpg,1,0,0,0,0,0,0','aa01.jpg,0,0,0,0,0,0,1'],
     'say different things of the same image: aa01'),
    ('eyepacs', 'trainLabels.csv', ['image,level','10_left,5','10_right,-1'],
     "'level' is to hold the grades 0 to 4, and holds -1, 5"),
    ('eyepacs', 'trainLabels.csv', ['image,grade','10_left,0'], 'lacks the column level'),
    ('aptos2019', 'train.csv', ['id_code,diagnosis','aa01,mild'], "holds mild"),
    ('idrid', 'idrid_labels.csv', ['id_code,diagnosis','IDRiD_001,9'], 'holds 9'),
    ('odir5k', 'full_df.csv', [HEAD.replace('Patient Age','age'), eye(7,'left','a','b')],
     'lacks the column Patient Age'),
    ('odir5k', 'full_df.csv', [HEAD, eye(7,'up','a','b')], 'tell no eye'),
    ('odir5k', 'full_df.csv', [HEAD, eye(7,'left','cataract','drusen',own='0,1,0,0,0,0,0,7')],
     "'O' is to hold 0 and 1, and holds 7"),
    ('messidor2', 'messidor_data.csv', ['image,level','a1.png,0'], 'lacks its columns'),
    ('messidor2', 'messidor_data.csv', ['image_id,adjudicated_dr_grade,adjudicated_gradable','a1.png,0,yes'],
     "holds yes"),
    ('rfmid', 'Training_Set/Training_Set/RFMiD_Training_Labels.csv', ['ID,DR','1,0'], 'lacks Disease_Risk'),
    ('rfmid', 'Training_Set/Training_Set/RFMiD_Training_Labels.csv', ['ID,Disease_Risk,DR,MH,XX','1,1,1,0,0'],
     'a part lacks XX'),
    ('papila', 'ClinicalData/patient_data_od.csv', ['ID,Age,Gender',',,','#002,47,0'], 'lacks the columns diagnosis'),
    ('papila', 'ClinicalData/patient_data_od.csv', ['ID,Gender','#002,0'], 'has no column Age')]

@pytest.mark.parametrize('name,file,lines,why', BAD)
def test_bad_tables(tmp_path, name, file, lines, why):
    write(tmp_path, name)
    (tmp_path/file).write_text('\n'.join(lines)+'\n')
    with pytest.raises(DataError, match=re.escape(why)) as e: read_dataset(name, tmp_path)
    assert str(tmp_path) in str(e.value) and '\n' not in str(e.value)

def test_cropped_copies_go_first(tmp_path, capsys):
    write(tmp_path, 'odir5k')
    for o in ('ODIR-5K/ODIR-5K/Training Images','A'):
        (tmp_path/o).mkdir(parents=True); (tmp_path/o/'7_left.jpg').touch()
    df = read_odir(tmp_path)
    assert {Path(o).parent.name for o in df.path}=={'preprocessed_images'}
    assert '2 images stand there' in capsys.readouterr().err
    (tmp_path/'preprocessed_images/7_left.jpg').unlink()
    assert sorted(Path(o).parent.name for o in read_odir(tmp_path).path)==['A','preprocessed_images']

def test_ungradable_has_no_grade(tmp_path, capsys):
    write(tmp_path, 'messidor2')
    rows = ['image_id,adjudicated_dr_grade,adjudicated_dme,adjudicated_gradable','a1.png,2,1,1','b2.png,3,1,0']
    (tmp_path/'messidor_data.csv').write_text('\n'.join(rows)+'\n')
    df = read_dataset('messidor2', tmp_path)
    assert df.grade.isna().tolist()==[False,True]==df['macular edema'].isna().tolist() and df.quality[1]=='ungradable'
    assert '1 of 2 images are ungradable' in capsys.readouterr().err
    (tmp_path/'messidor-2.csv').unlink()
    assert read_dataset('messidor2', tmp_path).patient.tolist()==['a1','b2']
    assert 'without messidor-2.csv' in capsys.readouterr().err

def test_empty_rows_absent_labels_and_copies(tmp_path, capsys):
    write(tmp_path, 'vietai2020')
    rows = [V,'aa01.jpg,0,0,0,0,0,0,0','aa01.jpg,0,0,0,0,0,0,0','bb02.jpg,1,0,0,0,0,0,0']
    (tmp_path/'train.csv').write_text('\n'.join(rows)+'\n')
    df = read_dataset('vietai2020', tmp_path)
    err = capsys.readouterr().err
    assert len(df)==2 and '1 of 3 rows repeat' in err and '1 of 2 images have none of the 7 labels' in err
    assert 'no image has the label diabetic retinopathy, glaucoma' in err

def test_excel_needs_openpyxl(tmp_path):
    write(tmp_path, 'papila')
    (tmp_path/'ClinicalData/patient_data_od.csv').rename(tmp_path/'ClinicalData/patient_data_od.xlsx')
    try: import openpyxl
    except ImportError:
        with pytest.raises(MissingPackage, match='pip install openpyxl'): read_papila(tmp_path)

def test_csv_of_several_labels(tmp_path):
    for o in 'abc': (tmp_path/f'{o}.png').touch()
    (tmp_path/'t.csv').write_text('path,patient,dr,amd,age\na.png,p,1,1,50.5\nb.png,p,0.0,,61\nc.png,q,0,0,70\n')
    df = read_csv(tmp_path/'t.csv', label='dr, amd')
    assert df.attrs['labels']==('dr','amd') and 'label' not in df and df.dr.tolist()==[1,0,0] and df.dr.dtype=='int64'
    assert df.amd.isna().tolist()==[False,True,False] and df.age.tolist()==[50.5,61,70]
    assert read_csv(tmp_path/'t.csv', label=['dr','amd']).equals(df)
    assert open_data(tmp_path/'t.csv', label='dr,amd').attrs['labels']==('dr','amd')
    one = read_csv(tmp_path/'t.csv', label='age')
    assert 'labels' not in one.attrs and pd.to_numeric(one.label).tolist()==[50.5,61,70]
    with pytest.raises(DataError, match="'age' is to hold 0 and 1, and holds 50.5"):
        read_csv(tmp_path/'t.csv', label='dr,age')
    with pytest.raises(DataError, match="unknown column 'xx'.*`label=COL`"): read_csv(tmp_path/'t.csv', label='dr,xx')

def test_both_eyes_of_a_patient_stay_together(tmp_path):
    df = read_dataset('odir5k', write(tmp_path, 'odir5k'))
    with pytest.raises(LeakError, match='1 patient occurs in both train and valid: 7'):
        check_split(df.assign(split=['train','valid']))

# --- phantoms through the same parsers --------------------

def by_stem(df): return df.set_index(df.path.map(lambda o: '/'.join(Path(o).parts[-2:])))

@pytest.mark.parametrize('name', FUNDUS)
def test_phantoms_are_read_as_drawn(drawn, name, capsys):
    truth,root = drawn(name)
    capsys.readouterr()
    df = read_dataset(name, root)
    err = capsys.readouterr().err
    assert len(df)==len(truth) and df.attrs['source']=='phantom' and 'no row' not in err
    assert 'no image ' not in err.replace('no image has', '')
    a,b = by_stem(df),by_stem(truth)
    assert set(a.index)==set(b.index)
    b = b.loc[a.index]
    two = name in ('eyepacs','odir5k','messidor2','papila','ukb')
    if two: assert (a.eye==b.eye).all() and df.groupby('patient').size().eq(2).all()
    if two: assert df.patient.nunique()==22 and (pd.crosstab(a.patient, b.patient)>0).sum(axis=1).max()==1
    if 'grade' in df and name!='odir5k':
        seen = a.grade.notna()
        assert (a.grade[seen].astype(int)==b.grade[seen]).all() and seen.mean()>.9
        assert df.groupby('grade').patient.nunique().min()>=2 and df.grade.nunique()==5
    if 'sex' in df: assert (a.sex==b.sex).all()
    if 'age' in df: assert ((a.age-b.age).abs().dropna()<=.5).all() and a.age.isna().mean()<.1

def test_phantom_labels_are_read_as_drawn(drawn):
    (t,root) = drawn('vietai2020'); df = by_stem(read_dataset('vietai2020', root))
    assert (df[list(VIETAI_LABELS)]==by_stem(t).loc[df.index, list(VIETAI_LABELS)]).all().all()
    assert (df[list(VIETAI_LABELS)].sum()>=2).all()
    (t,root) = drawn('odir5k'); df = by_stem(read_dataset('odir5k', root)); t = by_stem(t).loc[df.index]
    for k in ('normal','diabetic retinopathy','glaucoma','macular degeneration'): assert (df[k]==t[k]).all(), k
    sick = df['diabetic retinopathy']==1
    assert (df.grade[sick]==t.grade[sick]).all() and '，' in ''.join(df.keywords)
    (t,root) = drawn('rfmid'); df = read_dataset('rfmid', root)
    assert df.DR.sum()==t['diabetic retinopathy'].sum() and len(df.attrs['labels'])==46
    assert df.split.value_counts().index[0]=='train' and df.split.nunique()==3
    (t,root) = drawn('papila'); df = read_dataset('papila', root)
    assert set(df.label)=={'healthy','glaucoma','suspect'} and df[df.label=='suspect'].glaucoma.isna().all()

def test_phantom_masks_of_diaretdb1(drawn):
    import cv2
    t,root = drawn('diaretdb1')
    df = by_stem(read_dataset('diaretdb1', root)); t = by_stem(t).loc[df.index]
    for k,lesion in zip(DIARET_LESIONS, ('hard_exudate','cotton_wool_spot','hemorrhage','microaneurysm')):
        m = [cv2.imread(o, cv2.IMREAD_UNCHANGED) for o in df[f'mask_{k}']]
        im = cv2.imread(df.path.iloc[0])
        assert all(o.ndim==2 for o in m) and m[0].shape==im.shape[:2]
        assert [o.max()>0 for o in m]==(t[lesion]>0).tolist(), k
    assert set(df.split)=={'train','test'}

# --- opened by name --------------------

@pytest.fixture
def nobody(tmp_path, monkeypatch):
    "An empty home without credentials, and small phantoms"
    from functools import partial
    from fundus_fastai.phantom.layouts import write_layout
    for k in list(os.environ):
        if k.startswith(('KAGGLE','XDG')) or k.lower().endswith('_proxy'): monkeypatch.delenv(k)
    for k in ('HOME','USERPROFILE'): monkeypatch.setenv(k, str(tmp_path/'home'))
    monkeypatch.setenv('FUNDUS_HOME', str(tmp_path/'data')); monkeypatch.setenv('NO_PROXY', '*')
    for o in FUNDUS: monkeypatch.setattr(cards[o], 'phantom', partial(write_layout, o, size=64))
    return tmp_path

@pytest.mark.parametrize('name', FUNDUS)
def test_open_data_draws_with_a_banner(nobody, name, capsys):
    df = open_data(name, patients=8)
    err = capsys.readouterr().err
    assert df.attrs['source']=='phantom' and df.attrs['name']==name and 'PHANTOM DATA' in err
    assert ('by application' if name=='ukb' else 'no Kaggle credentials') in err
    assert open_data(df.attrs['root']).attrs['name']==name
    why = 'by application.*name the folder' if name=='ukb' else 'no Kaggle credentials'
    with pytest.raises(DownloadError, match=why): open_data(name, source='kaggle')

def test_what_is_yours_cannot_be_opened_by_its_kind(nobody):
    for o in ('folder','csv'):
        with pytest.raises(DataError, match='name the folder or the CSV'): open_data(o)
    with pytest.raises(DownloadError, match='name the folder'): download('folder')

@pytest.mark.parametrize('name', ['vietai2020','eyepacs','aptos2019'])
def test_competitions_by_their_own_call(nobody, monkeypatch, name):
    pytest.importorskip('kaggle')
    import io, zipfile
    from stub_kaggle import KaggleStub
    root = write(nobody/'set', name)
    b = io.BytesIO()
    with zipfile.ZipFile(b, 'w') as z:
        for o in root.rglob('*'):
            if o.is_file(): z.write(o, o.relative_to(root))
    monkeypatch.setenv('KAGGLE_API_TOKEN', 'KGAT_stub')
    monkeypatch.setattr(cards[name], 'gb', .001); monkeypatch.setattr(cards[name], 'gb_unpacked', .001)
    with KaggleStub(b.getvalue()) as stub, stub.as_kaggle():
        stub.api = [403]
        with pytest.raises(DownloadError, match=f'accept the rules at {cards[name].url}/rules and verify'):
            open_data(name)
        df = open_data(name)
        assert check(df, name) and df.attrs['source']=='kaggle' and ('api','DownloadDataFiles') in stub.log
        assert stub.bodies[-1]['competitionName']==cards[name].kaggle
        assert read_json(nobody/'data'/name/'PROVENANCE.json')['kind']=='competition'

# --- lesions --------------------

CENTER = '<centroid><coords2d>60,40</coords2d></centroid>'
def region(shape, radii=(), angle=None, points=(), center=CENTER):
    rs = ''.join(f'<radius direction="{d}">{r}</radius>' for d,r in zip('xy', radii))
    more = ''.join(f'<coords2d>{x},{y}</coords2d>' for x,y in points)
    return f"<{shape}region>{center}{rs}{'' if angle is None else f'<angle>{angle}</angle>'}{more}</{shape}region>"
def marking(body, word='Haemorrhages'):
    return (f'<marking>{body}<representativepoint><coords2d>1,1</coords2d></representativepoint>'
            f'<confidencelevel>High</confidencelevel><markingtype>{word}</markingtype></marking>')
def outlines_file(path, *marks):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('<?xml version="1.0" standalone="no"?>\n<!DOCTYPE imgannotool SYSTEM "http://nowhere.example/a.dtd">\n'
                    f'<imgannotooldata><header/><markinglist>{"".join(marks)}</markinglist></imgannotooldata>')
    return path

@pytest.mark.parametrize('angle,slope', [(30,-1),(150,1),(0,0),(90,0)])
def test_ellipses_turn_against_the_clock(tmp_path, angle, slope):
    marks = read_outlines(outlines_file(tmp_path/'a.xml', marking(region('ellipse', (30,8), angle))))
    m = draw_outlines(marks, (80,120))['HE']
    y,x = np.nonzero(m)
    t = np.radians(-angle)
    yy,xx = np.mgrid[:80,:120]
    u,v = (xx-60)*np.cos(t)+(yy-40)*np.sin(t),-(xx-60)*np.sin(t)+(yy-40)*np.cos(t)
    want = (u/30.5)**2+(v/8.5)**2<=1
    assert 2*(m&want).sum()/(m.sum()+want.sum())>.97
    assert np.sign(np.corrcoef(x, y)[0,1].round(1))==slope

def test_outlines_of_every_shape_and_word(tmp_path):
    f = outlines_file(tmp_path/'a.xml', marking(region('circle', (5,)), 'Red_small_dots'), marking(region('circle', (9,)), 'Hard_exudates'),
        marking(region('polygon', points=[(10,10),(30,10),(30,20),(10,20)]), 'Soft_exudates'), marking(region('circle', (20,)), 'Disc'),
        marking(region('circle', (2,)), 'IRMA'))
    marks = read_outlines(f)
    assert marks.type.tolist()==['MA','EX','SE','OD','irma'] and (marks.confidence=='High').all()
    m = draw_outlines(marks, (80,120))
    assert m['SE'][10:21,10:31].all() and m['SE'].sum()==11*21
    for k,r in (('MA',5),('EX',9)): assert m[k][40,60] and m[k].sum()==pytest.approx(np.pi*(r+.5)**2, rel=.1)
    half = draw_outlines(marks, (40,60), .5)
    assert np.abs(np.argwhere(half['EX']).mean(0)-[19.75,29.75]).max()<.3 and half['MA'].sum()==pytest.approx(np.pi*3**2, rel=.2)

@pytest.mark.parametrize('body,why', [('no xml', 'is no file of outlines'), ('<?xml version="1.0" encoding="rot13"?><a/>', 'is no file of outlines'), ('<a><marking/></a>', 'outline of no type cannot be read'),
    ('<a>'+marking(region('circle'))+'</a>', 'numbers are missing'), ('<a>'+marking(region('circle', ('x',)))+'</a>', 'outline of haemorrhages cannot be read'),
    ('<a>'+marking(region('polygon', points=[(1,2)]))+'</a>', 'numbers are missing'), ('<a>'+marking('<circleregion><centroid><coords2d>3</coords2d></centroid><radius>2</radius></circleregion>')+'</a>', 'numbers are missing')])
def test_bad_outlines(tmp_path, body, why):
    (tmp_path/'b.xml').write_text(body)
    with pytest.raises(DataError, match=why) as e: read_outlines(tmp_path/'b.xml')
    assert 'b.xml' in str(e.value)
    with pytest.raises(DataError, match='no file of outlines'): read_outlines(tmp_path/'none.xml')

def picture(path, a):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(a).save(path)
    return path

def test_version_2_is_the_share_of_experts(tmp_path):
    top = tmp_path/'ddb1_v02_01'
    picture(top/'images/diaretdb1_image001.png', np.zeros((80,120,3), np.uint8))
    for k,rs in enumerate(([9],[9],[9,3],[])):
        outlines_file(top/f'groundtruth/diaretdb1_image001_0{k+1}.xml', *(marking(region('circle', (r,)), w) for r,w in zip(rs, ('Hard_exudates','Red_small_dots'))))
    outlines_file(top/'groundtruth/diaretdb1_image001_01_plain.xml', marking(region('circle', (30,))))
    df = read_dataset('diaretdb1', tmp_path)
    assert df.outlines[0].count(';')==3 and 'plain' not in df.outlines[0]
    m = lesion_masks(df.iloc[0])
    assert set(m)==set(LESION_CODES) and m['EX'][40,60]==.75 and m['MA'][40,60]==.25 and m['EX'].max()==.75 and not m['HE'].any()
    assert consensus(m['EX'], 3).sum()==consensus(m['EX'], 1).sum()>0==consensus(m['EX'], 4).sum()
    for f in (top/'groundtruth').glob('*_0?.xml'): f.unlink()
    assert lesion_masks(read_dataset('diaretdb1', tmp_path).iloc[0])['HE'].max()==1 # where only the plain one is there

def test_version_1_is_gray(tmp_path):
    picture(tmp_path/'ddb1_fundusimages/image001.png', np.zeros((40,60,3), np.uint8))
    g = np.zeros((40,60), np.uint8); g[5:9,5:9] = 191; g[20:22,20:22] = 64
    picture(tmp_path/'ddb1_groundtruth/redsmalldots/image001.png', g)
    m = lesion_masks(read_dataset('diaretdb1', tmp_path).iloc[0])
    assert set(m)=={'MA'} and [int(consensus(m['MA'], k).sum()) for k in (1,2,3,4)]==[20,16,16,0]
    picture(tmp_path/'ddb1_groundtruth/redsmalldots/image001.png', g[:20])
    with pytest.raises(DataError, match='60x20 pixels, its picture 60x40'): lesion_masks(read_dataset('diaretdb1', tmp_path).iloc[0])

def test_idrid_masks_and_boxes(tmp_path):
    top = tmp_path/'A. Segmentation'
    for s in ('a. Training Set','b. Testing Set'): picture(top/f'1. Original Images/{s}/IDRiD_01.jpg', np.zeros((40,60,3), np.uint8))
    m = np.zeros((40,60,3), np.uint8); m[5:9,5:12,0] = 76 # red
    picture(top/'2. All Segmentation Groundtruths/a. Training Set/3. Hard Exudates/IDRiD_01_EX.tif', m)
    picture(top/'2. All Segmentation Groundtruths/a. Training Set/5. Optic Disc/IDRiD_01_OD.tif', m)
    (tmp_path/'boxes.csv').write_text('image_id,type,x_centre,y_centre,width,height\nIDRiD_01,EX,8,6.5,7,4\nIDRiD_02,HE,8,6,7,4\n')
    assert guess_card(tmp_path)=='idrid'
    df = read_dataset('idrid', tmp_path).set_index('split')
    assert len(df)==2 and df.patient.is_unique
    train,test = (lesion_masks(df.loc[s]) for s in ('train','test'))
    assert (train['EX']==(m[...,0]>0)).all() and not train['MA'].any() and set(test)=={'EX'} # by its box: it has no mask
    box = lesion_masks(dict(path=df.path['train'], boxes=str(tmp_path/'boxes.csv')))
    assert set(box)=={'EX'} and (box['EX']==(m[...,0]>0)).all()
    (tmp_path/'boxes.csv').write_text('image_id,type\nIDRiD_01,EX\n')
    with pytest.raises(DataError, match='lacks the columns x_centre, y_centre'): lesion_masks(dict(path=df.path['train'], boxes=str(tmp_path/'boxes.csv')))
    (tmp_path/'boxes.csv').write_text('image_id,type,x_centre,y_centre,width,height\nIDRiD_01,EX,8,a,7,4\n')
    with pytest.raises(DataError, match='is no numbers'): lesion_masks(dict(path=df.path['train'], boxes=str(tmp_path/'boxes.csv')))

def test_masks_that_are_not_there_are_no_masks_without_lesions(tmp_path, capsys):
    "Of an image without any mask nothing is known; where pictures tell no part and masks do, they meet by name"
    for k in (1,55): picture(tmp_path/f'images/IDRiD_{k:02d}.jpg', np.zeros((40,60,3), np.uint8))
    m = np.zeros((40,60), np.uint8); m[5:9,5:12] = 255
    picture(tmp_path/'masks/train/IDRiD_01_MA.tif', m)
    picture(tmp_path/'masks/test/IDRiD_99_EX.tif', m)
    df = read_dataset('idrid', tmp_path).set_index('path', drop=False)
    told = capsys.readouterr().err
    assert '1 of 2 masks are of no image: IDRiD_99_EX.tif' in told and '1 of 2 images have no mask: nothing is known' in told
    one,other = (lesion_masks(df.iloc[k]) if k==0 else df.iloc[k] for k in (0,1))
    assert one['MA'].sum()==28 and not one['EX'].any()
    with pytest.raises(DataError, match='nothing is known of lesions'): lesion_masks(other)

def test_outlines_of_a_smaller_picture(tmp_path):
    "Those of DIARETDB1 are in pixels of 1500 by 1152; elsewhere they must lie in the picture"
    def centered(w, h):
        d = tmp_path/f'{w}'
        picture(d/'ddb1_v02_01/images/diaretdb1_image001.png', np.zeros((h,w,3), np.uint8))
        outlines_file(d/'ddb1_v02_01/groundtruth/diaretdb1_image001_01.xml', marking(region('circle', (90,), center=CENTER.replace('60,40', '800,600')), 'Hard_exudates'))
        return lesion_masks(read_dataset('diaretdb1', d).iloc[0])['EX']
    for w,h in ((1500,1152), (1000,768), (768,590)):
        y,x = (o.mean() for o in np.nonzero(centered(w, h)))
        assert abs(x/w-800.5/1500)<.003 and abs(y/h-600.5/1152)<.003
    with pytest.raises(DataError, match='400 x 300 pixels, and outlines lie beyond'): centered(400, 300)

def test_the_photographs_are_read_and_not_what_was_made_of_them(tmp_path, capsys):
    for d in ('train_images','gradcam','masks'):
        for k in 'ab': picture(tmp_path/f'{d}/{k*12}.png', np.zeros((8,8,3), np.uint8))
    (tmp_path/'train.csv').write_text('id_code,diagnosis\naaaaaaaaaaaa,0\nbbbbbbbbbbbb,2\n')
    df = read_dataset('aptos2019', tmp_path)
    assert df.path.str.contains('train_images').all() and 'as they are in train_images, not in gradcam, masks' in capsys.readouterr().err

MAPS = {'vietai2020':'train/gradcam', 'eyepacs':'train/maps', 'aptos2019':'aug_train_images', 'messidor2':'CLAHE images', 'idrid':'Amaps', 'rfmid':'Maps'}

@pytest.mark.parametrize('name', MAPS)
def test_folders_are_known_by_their_whole_name(tmp_path, name, capsys):
    "not by a part of it, nor by that of a folder above"
    images = [o.replace('train/', 'train/train/').replace('train/train/train/', 'train/train/') for o in SETS[name][1]]
    write(tmp_path, name)
    for a,b in zip(SETS[name][1], images):
        (tmp_path/b).parent.mkdir(parents=True, exist_ok=True); (tmp_path/a).rename(tmp_path/b)
        f = ((tmp_path/b).parent.parent if name=='rfmid' else tmp_path)/MAPS[name]/Path(a).name
        f.parent.mkdir(parents=True, exist_ok=True); f.touch()
    assert {os.path.relpath(o, tmp_path) for o in read_dataset(name, tmp_path).path}=={*images}

def test_a_map_in_the_place_of_a_photograph_is_told(tmp_path, capsys):
    (write(tmp_path, 'aptos2019')/'train_images/bb02.png').rename(tmp_path/'bb02.png')
    assert len(read_dataset('aptos2019', tmp_path))==2
    assert f'1 of 2 images lie in another folder than the rest, and may be no photographs: {tmp_path}/bb02.png' in capsys.readouterr().err

def test_boxes_of_another_size(tmp_path):
    p = picture(tmp_path/'IDRiD_01.jpg', np.zeros((40,60,3), np.uint8))
    (tmp_path/'boxes.csv').write_text('image_id,type,x_centre,y_centre,width,height\nIDRiD_01,EX,808,6.5,7,4\n')
    with pytest.raises(DataError, match='a box of IDRiD_01 lies beyond its picture of 60 x 40'): lesion_masks(dict(path=str(p), boxes=str(tmp_path/'boxes.csv')))

def test_pairs_without_a_heading_or_partner(tmp_path, capsys):
    for k in ('aL','aR','bL','bR'): picture(tmp_path/f'IMAGES/{k}.png', np.zeros((8,8,3), np.uint8))
    (tmp_path/'messidor_data.csv').write_text('image_id,adjudicated_dr_grade\n'+''.join(f'{k}.png,1\n' for k in ('aL','aR','bL','bR')))
    pairs = tmp_path/'messidor-2.csv'
    pairs.write_text('left;right\naL.png;aR.png\nb_L.png;b_R.png\n')
    df = read_dataset('messidor2', tmp_path)
    assert df.patient.nunique()==3 and '2 of 4 images do not tell their patient' in capsys.readouterr().err
    pairs.write_text('aL.png;aR.png\nbL.png;bR.png\n')
    with pytest.raises(DataError, match='has no heading: put `left;right`'): read_dataset('messidor2', tmp_path)

@pytest.mark.parametrize('head', ['ID,Age,Gender,Diagnosis', ',Age,Gender,Diagnosis', 'Clinical data\n,Age,Gender,Diagnosis\nID,,,', '"Clinical, data"\nID,Age,Gender,Diagnosis'])
def test_papila_s_headings_as_they_are_saved(tmp_path, head):
    "A first cell without a word, and lines above of another length, take nobody's number away"
    f = tmp_path/'patient_data_od.csv'
    f.write_text(f'{head}\n#002,47,0,2\n#004,61,1,0\n')
    assert _papila_eye(str(f), 'R')[['patient','age','sex','label']].values.tolist()==[['002',47,'male','suspect'],['004',61,'female','healthy']]

def test_nobody_looked(tmp_path):
    p = picture(tmp_path/'a.png', np.zeros((40,60,3), np.uint8))
    with pytest.raises(DataError, match='nothing is known of lesions in'): lesion_masks(dict(path=str(p)))

def test_phantoms_are_read_as_the_real_sets_are(tmp_path):
    from fundus_fastai.phantom.fundus import fundus_truth
    from fundus_fastai.phantom.layouts import write_layout
    for name,card in (('diaretdb1_xml','diaretdb1'),('diaretdb1','diaretdb1'),('idrid_masks','idrid')):
        write_layout(name, tmp_path/name, patients=10, size=192)
        assert guess_card(tmp_path/name)==card
        df = read_dataset(card, tmp_path/name)
        assert len(df)==10 and df.attrs['source']=='phantom'
        got,missed = dict(two=0, all=0),0
        for o in df.to_dict('records'):
            t,m = fundus_truth(o['path']),lesion_masks(o)
            for k in ('HE','EX'):
                if (true := t.masks.get(LESION_CODES[k])) is None: continue
                two = consensus(m[k], 2)
                got['two'] += (two&true).sum(); got['all'] += true.sum()
        assert got['two']>.75*got['all']>0, name
