"From a clinic's file to an answer in its archive: rows, eyes, secondary captures"
import shutil, subprocess
from pathlib import Path
import numpy as np, pandas as pd, pytest
import dicoms
from dicoms import pydicom, scans, write
from fundus_fastai.cli import main
from fundus_fastai.core import DataError
from fundus_fastai.image.hospital import frames_of, patient_digest
from fundus_fastai.image.read import read_image
from fundus_fastai.image.recipe import Eye, eye_remark
from fundus_fastai.phantom.fundus import phantom_fundus
from fundus_fastai.run.train import predict_run
from fundus_fastai.ship import dicom as page
from fundus_fastai.ship.dicom import Captures, caption, capture, captioned, comments

RUN = Path(__file__).parents[1]/'run/old_run/run' # a small net of phantom scans

@pytest.fixture(scope='module')
def clinic(tmp_path_factory):
    "Two eyes of one patient, one of another, a broken volume"
    d = tmp_path_factory.mktemp('clinic')
    for k,(who,side,n) in enumerate([('A','L',3), ('A','R',2), ('B','L',1)]): write(d/f'eye{k}.dcm', scans(n, seed=9*k), PatientID=who, Laterality=side, BurnedInAnnotation='NO')
    (d/'broken.dcm').write_bytes((d/'eye0.dcm').read_bytes()[:900])
    return d

@pytest.fixture(autouse=True)
def key(tmp_path_factory, monkeypatch):
    monkeypatch.setenv('FUNDUS_PATIENT_KEY', str(tmp_path_factory.getbasetemp()/'patients.key'))

def test_rows_eyes_and_captures(clinic, tmp_path, capsys):
    "One call: a row a B-scan with volume and frame, and a capture a file, whose header says what it is and names nobody"
    files = [clinic/f'eye{k}.dcm' for k in range(3)]
    assert main(['predict', RUN, *files, '--out', tmp_path/'t.csv', '--dicom-out', tmp_path/'sc'])==0
    t = pd.read_csv(tmp_path/'t.csv', dtype=dict(patient=str))
    assert t.path.tolist()==[o for f in files for o in frames_of(f)] and t.usable.all()
    assert t.frame.tolist()[:5]==[1,2,3,1,2] and t.frame.isna()[5] and t.volume[0]==str(files[0])
    assert t.patient.tolist()==[patient_digest('A')]*5+[patient_digest('B')] and t.eye.tolist()==list('LLLRRL')
    c = pd.read_csv(tmp_path/'sc/captures.csv')
    assert c.path.tolist()==list(map(str, files)) and '3 captures' in capsys.readouterr().err
    made = [tmp_path/'sc'/o for o in c.capture]
    assert not any('eye' in o or src in o for o in c.capture for src in [pydicom.dcmread(f).SOPInstanceUID for f in files]), "a file's name may be a person's"
    src,ds = pydicom.dcmread(files[0]),pydicom.dcmread(made[0])
    assert ds.file_meta.MediaStorageSOPClassUID==ds.SOPClassUID=='1.2.840.10008.5.1.4.1.1.7.4' and ds.SOPInstanceUID!=src.SOPInstanceUID
    assert ds.ImageType==['DERIVED','SECONDARY'] and ds.ContentQualification=='RESEARCH' and ds.Modality=='OT' and ds.ConversionType=='WSD'
    assert 'RESEARCH ONLY' in ds.DerivationDescription and 'RESEARCH ONLY' in ds.SeriesDescription and t.model[0][:16] in ds.DerivationDescription
    s, = ds.SourceImageSequence
    assert s.ReferencedFrameNumber==[1,2,3] and s.ReferencedSOPClassUID==src.SOPClassUID and s.PurposeOfReferenceCodeSequence[0].CodeValue=='121322'
    assert ds.PatientID==patient_digest('A') and ds.PatientIdentityRemoved=='YES' and ds.Laterality=='L' and ds.PatientBirthDate==''
    raw = made[0].read_bytes()
    assert not any(o.encode() in raw for o in ('Doe','19540302',src.StudyInstanceUID,src.SOPInstanceUID)), "nobody's name, no number of the archive"
    assert pydicom.dcmread(made[1]).StudyInstanceUID==ds.StudyInstanceUID, "the two eyes of a study stay together"
    for k,p in enumerate(frames_of(made[0])):
        im = read_image(p)
        assert (im[:384:4,::4,0]==scans(3)[k]).all() and im[384:].max()>200, "the picture is untouched, the words are below it"
    one = pydicom.dcmread(made[2])
    assert one.SOPClassUID=='1.2.840.10008.5.1.4.1.1.7' and 'ReferencedFrameNumber' not in one.SourceImageSequence[0]

def answered(f): return dict(path=f, prediction='DME', p_DME=.9, usable=True, remark='', model='0'*16)

def test_names_stay_unless_they_are_asked_for(tmp_path):
    with Captures(tmp_path/'sc') as c: assert not c.identified and 'Doe' not in c.names(['Doe.dcm'])[0]
    ds = capture(f := write(tmp_path/'a.dcm', scans(1)), [answered(f)], task='oct')
    assert ds.PatientAge=='069Y' and ds.PatientSex=='F' and not ds.PatientBirthDate and ds.PatientName==ds.PatientID==patient_digest('MRN 4711')
    assert ds.Manufacturer=='fundus_fastai' and ds.SoftwareVersions, "it was not made by the camera"
    ds = capture(f := write(tmp_path/'b.dcm', scans(1), PatientBirthDate='', StudyInstanceUID=''), [answered(f)], task='oct')
    assert 'PatientAge' not in ds
    ds = capture(f, [answered(f)], task='oct', identified=True)
    assert ds.PatientName=='Doe^Jane' and ds.StudyInstanceUID, "an archive refuses a file of no study"

@pytest.mark.parametrize('source,marked', [('phantom',True), ('kaggle',False)])
def test_a_net_of_phantoms_is_marked_in_its_captures(tmp_path, monkeypatch, capsys, source, marked):
    said = []
    monkeypatch.setattr(page, 'caption', lambda *args: said.extend(caption(*args)) or caption(*args))
    df = pd.DataFrame([answered(write(tmp_path/'a.dcm', scans(1)))])
    df.attrs.update(task='oct', source=source)
    with Captures(tmp_path/'sc') as c: t = c.write(df)
    assert said[-1].endswith(', of PHANTOMS')==marked and said[0]=='RESEARCH ONLY - not a medical device'
    assert list(pd.read_csv(tmp_path/'sc/captures.csv'))==['capture','path'] and len(t)==1 and capsys.readouterr().err==''

def test_comments_are_as_long_as_a_header_may_hold():
    "10,240 letters, and not one is cut off that fits"
    rows = [answered(f'v.dcm#{k}') for k in range(1, 501)]
    fits = comments(rows, 'x'*(10240-len(comments(rows, ''))))
    assert len(fits)==10240 and fits.endswith('500: DME (p 0.90)')
    more = comments(rows*2, 'oct')
    assert 10200<len(more)<=10240 and more.endswith('(the others: below their pictures)') and more.startswith(comments(rows, 'oct')[:9000])

def test_captures_of_nobody_are_of_one_study(tmp_path):
    "Files without a number were all one patient's, called unknown, in an archive"
    who = {}
    for k,study in enumerate(['1.2.3.4','1.2.3.4','1.2.3.5','','']):
        row = dict(path=write(tmp_path/f'{k}.dcm', scans(1), PatientID='', StudyInstanceUID=study), prediction='DME', p_DME=.9, usable=True, remark='', model='0'*16)
        ds = capture(row['path'], [row], task='oct')
        assert ds.PatientID==ds.PatientName and len(ds.PatientID)==16
        who[k] = ds.PatientID
    assert who[0]==who[1] and len(set(who.values()))==4

def test_a_capture_keeps_issuers_apart(tmp_path):
    facts = [write(tmp_path/f'{o}.dcm', scans(1), IssuerOfPatientID=o) for o in 'AB']
    row = dict(prediction='DME', p_DME=.9, usable=True, remark='', model='0'*16)
    assert len({capture(f, [row|dict(path=f)], task='oct').PatientID for f in facts})==2

def test_identified_captures_go_back_to_the_patient(clinic, tmp_path):
    f = clinic/'eye1.dcm'
    assert main(['predict', RUN, f, '--out', tmp_path/'t.csv', '--dicom-out', tmp_path/'sc', '--identified'])==0
    src,ds = pydicom.dcmread(f),pydicom.dcmread(tmp_path/'sc/eye1_research.dcm')
    for k in ('PatientID','PatientName','StudyInstanceUID','StudyDate'): assert ds[k].value==src[k].value
    assert ds.SourceImageSequence[0].ReferencedSOPInstanceUID==src.SOPInstanceUID and 'PatientIdentityRemoved' not in ds and ds.SeriesInstanceUID!=src.get('SeriesInstanceUID')
    assert ds.ContentQualification=='RESEARCH'

@pytest.mark.parametrize('name', ['山田^太郎','Müller^Jürgen'])
def test_names_in_any_letters_go_back_as_they_are(tmp_path, name):
    f = write(tmp_path/'a.dcm', scans(1), PatientName=name, SpecificCharacterSet='ISO_IR 192')
    assert main(['predict', RUN, f, '--out', tmp_path/'t.csv', '--dicom-out', tmp_path/'sc', '--identified'])==0
    assert pydicom.dcmread(tmp_path/'sc/a_research.dcm').PatientName==name

def test_frames_of_other_words_and_files_without_a_number(tmp_path, capsys):
    "A frame that gets no answer has a longer line below; a file that nothing can be referred to has no capture, and the next one has"
    v = scans(2)
    v[1] = 0
    bad = write(tmp_path/'bad.dcm', scans(1))
    ds = pydicom.dcmread(bad)
    del ds.SOPClassUID, ds.SOPInstanceUID
    ds.save_as(bad)
    f = write(tmp_path/'v.dcm', v)
    assert main(['predict', RUN, bad, f, '--out', tmp_path/'t.csv', '--dicom-out', tmp_path/'sc'])==0
    assert 'bad.dcm has no SOPClassUID, SOPInstanceUID' in capsys.readouterr().err
    c = pd.read_csv(tmp_path/'sc/captures.csv')
    assert c.path.tolist()==[str(f)] and pydicom.dcmread(tmp_path/'sc'/c.capture[0]).NumberOfFrames==2

@pytest.mark.parametrize('said,removed', [('YES','NO'), ('NO','YES'), (None,'YES')])
def test_pixels_that_tell_a_name_are_not_called_free_of_it(tmp_path, monkeypatch, said, removed):
    monkeypatch.setenv('FUNDUS_BURNED', '1')
    f = write(tmp_path/'a.dcm', scans(1), **({'BurnedInAnnotation':said} if said else {}))
    assert main(['predict', RUN, f, '--out', tmp_path/'t.csv', '--dicom-out', tmp_path/'sc'])==0
    ds = pydicom.dcmread(next((tmp_path/'sc').glob('*.dcm')))
    assert ds.PatientIdentityRemoved==removed and ds.get('BurnedInAnnotation')==said

@pytest.mark.parametrize('said,burned,removed', [('YES','YES','NO'), ('NO','NO','YES'), (None,'YES','NO')])
def test_a_volume_says_whether_its_pixels_tell_a_name(tmp_path, monkeypatch, said, burned, removed):
    "The standard asks for it; where the source is silent nobody knows"
    monkeypatch.setenv('FUNDUS_BURNED', '1')
    f = write(tmp_path/'a.dcm', scans(2), **({'BurnedInAnnotation':said} if said else {}))
    assert main(['predict', RUN, f, '--out', tmp_path/'t.csv', '--dicom-out', tmp_path/'sc'])==0
    ds = pydicom.dcmread(made := next((tmp_path/'sc').glob('*.dcm')))
    assert (ds.BurnedInAnnotation,ds.PatientIdentityRemoved)==(burned,removed)
    if exe := shutil.which('dciodvfy'):
        told = subprocess.run([exe, made], capture_output=True, text=True)
        assert not [k for k in (told.stdout+told.stderr).splitlines() if k.startswith('Error')]

@pytest.mark.parametrize('n', [1,2])
@pytest.mark.parametrize('said,more,picture,header', [
    ('病变', {'p_正常':.2,'p_病变':.8}, 'class 2 of 2, named in the header (p 0.80)', '病变 (p 0.80)'),
    ('正常 + 糖', {'p_正常':.7,'p_病变':.1,'p_糖':.6}, 'class 1 + 3 of 3, named in the header', '正常 + 糖'),
    ('mäßig', {'p_keine':.1,'p_mäßig':.9}, 'class 2 of 2, named in the header (p 0.90)', 'mäßig (p 0.90)'),
    ('male', {'p_female':.28,'p_male':.72,'pred_age':59.98}, 'male (p 0.72), age 60.0', 'male (p 0.72), age 60.0'),
    ('59.7', {'pred':59.69}, '59.7', '59.7')])
def test_a_capture_holds_the_answer_in_any_letters(tmp_path, said, more, picture, header, n):
    f = write(tmp_path/'a.dcm', scans(n))
    rows = [dict(path=o, usable=True, remark='', prediction=said, model='f3ab'*4)|more for o in frames_of(f)]
    assert caption(rows[0], 'x')[1]==f'x: {picture}'
    capture(f, rows, task='x').save_as(tmp_path/'b.dcm', enforce_file_format=True)
    told = pydicom.dcmread(tmp_path/'b.dcm').ImageComments.splitlines()
    assert told[0].startswith('RESEARCH ONLY') and told[1:]==['question x', *([header] if n==1 else [f'1: {header}', f'2: {header}'])]

def test_letters_that_no_font_has_stay_distinguishable():
    a,b = (captioned(np.zeros((40,512,3), np.uint8), [o]) for o in ('正常','病变'))
    assert a.shape!=b.shape or (a!=b).any()

def test_what_the_standard_requires(clinic, tmp_path):
    "Present, even where it is empty; and a validator that is not ours, where it is installed, finds no error"
    f = write(tmp_path/'lossy.dcm', scans(2), syntax=dicoms.JPEGBaseline8Bit, LossyImageCompression='01', LossyImageCompressionRatio=8., LossyImageCompressionMethod='ISO_10918_1')
    assert main(['predict', RUN, clinic/'eye0.dcm', clinic/'eye2.dcm', f, '--out', tmp_path/'t.csv', '--dicom-out', tmp_path/'sc'])==0
    made = [pydicom.dcmread(tmp_path/'sc'/o) for o in pd.read_csv(tmp_path/'sc/captures.csv').capture]
    needed = 'PatientName PatientID PatientBirthDate PatientSex StudyDate StudyTime ReferringPhysicianName StudyID AccessionNumber PatientOrientation InstanceNumber'
    assert len(made)==3 and all(k in o for o in made for k in needed.split())
    assert (made[2].LossyImageCompression,made[2].LossyImageCompressionRatio,made[2].LossyImageCompressionMethod)==('01',8,'ISO_10918_1')
    if exe := shutil.which('dciodvfy'):
        said = [subprocess.run([exe, o], capture_output=True, text=True) for o in (tmp_path/'sc').glob('*.dcm')]
        assert not [k for o in said for k in (o.stdout+o.stderr).splitlines() if k.startswith('Error')]

@pytest.mark.parametrize('by,n', [('eye',3), ('volume',3)])
def test_answers_are_pooled(clinic, tmp_path, by, n):
    "A mean in logarithms, computed again without our code"
    files = [clinic/f'eye{k}.dcm' for k in range(3)]
    assert main(['predict', RUN, *files, '--out', tmp_path/'rows.csv'])==0
    assert main(['predict', RUN, *files, '--out', tmp_path/'pool.csv', '--pool', by])==0
    rows,t = (pd.read_csv(tmp_path/o) for o in ('rows.csv','pool.csv'))
    assert len(t)==n and t.images.tolist()==[3,2,1] and t.usable.tolist()==[3,2,1] and t.eye.tolist()==['L','R','L']
    p = rows.filter(like='p_')
    for k,i in enumerate([slice(0,3),slice(3,5),slice(5,6)]):
        q = np.exp(np.log(p.iloc[i]).mean())
        assert np.allclose(t.filter(like='p_').iloc[k], q/q.sum(), atol=1e-5)
        assert t.prediction[k]==(q/q.sum()).idxmax().removeprefix('p_')
    assert t.path[0]==(str(files[0]) if by=='volume' else f"{patient_digest('A')} L")

def test_visits_of_an_eye_are_rows_of_their_own(tmp_path, capsys):
    "Counted by their days, which the table does not tell"
    for k,(name,day) in enumerate([('z','20210305'),('a','20230901'),('b','20230901'),('o','')]):
        write(tmp_path/f'{name}.dcm', scans(2, seed=9*k), PatientID='A', Laterality='L', StudyDate=day, BurnedInAnnotation='NO')
    assert main(['predict', RUN, tmp_path, '--out', tmp_path/'pool.csv', '--pool', 'eye'])==0
    t,who = pd.read_csv(tmp_path/'pool.csv'),patient_digest('A')
    assert dict(zip(t.path, t.images))=={f'{who} L visit 1':2, f'{who} L visit 2':4, f'{who} L':2}
    assert 'of 1 eye\n' in capsys.readouterr().err and '2023' not in (tmp_path/'pool.csv').read_text()

def test_mistakes_are_a_sentence(clinic, tmp_path, capsys):
    f = clinic/'eye0.dcm'
    (tmp_path/'full').mkdir()
    (tmp_path/'full/x').touch()
    for args,says in ((['--pool','person'], 'unknown way to pool'), (['--pool','eye','--resume'], '--pool needs all rows'), (['--dicom-out',tmp_path/'sc0','--resume'], '--dicom-out needs all rows'),
                      (['--identified'], 'name their folder with --dicom-out'), (['--dicom-out',tmp_path/'full'], 'is not empty')):
        assert main(['predict', RUN, f, '--out', tmp_path/'x.csv', *args])==1
        err = capsys.readouterr().err
        assert says in err and 'Traceback' not in err and not (tmp_path/'x.csv').exists()
    assert main(['predict', RUN, clinic/'broken.dcm', f, '--out', tmp_path/'y.csv', '--dicom-out', tmp_path/'sc'])==1
    err = capsys.readouterr().err
    assert 'broken.dcm' in err and 'no capture: ' in err and len(pd.read_csv(tmp_path/'y.csv'))>=4
    assert pd.read_csv(tmp_path/'sc/captures.csv').path.tolist()==[str(f)]
    assert main(['predict', RUN, f, '--out', tmp_path/'z.csv', '--dicom-out', tmp_path/'sc', '--force'])==0, "our own folder may be replaced"

def test_a_refused_call_leaves_no_folder(clinic, tmp_path, capsys):
    "An empty folder for captures was left where the table stood there already or no image could be read"
    (tmp_path/'t.csv').touch()
    (tmp_path/'own').mkdir()
    for f,out,sc in (('eye0.dcm','t.csv','sc'), ('none.dcm','u.csv','deep/sc'), ('eye0.dcm','t.csv','own')):
        assert main(['predict', RUN, clinic/f, '--out', tmp_path/out, '--dicom-out', tmp_path/sc])==1
    assert main(['predict', RUN, clinic/'eye0.dcm', '--shard', '1/2', '--out', tmp_path/'t.csv', '--dicom-out', tmp_path/'parts'])==1
    assert {o.name for o in tmp_path.iterdir()}=={'t.csv','own'}, "what the caller made stays"

def test_forced_captures_give_way_to_the_new(clinic, tmp_path):
    "What the old table lists goes, a file of somebody else's stays"
    def asked(k, *more): assert main(['predict', RUN, clinic/f'eye{k}.dcm', '--out', tmp_path/'t.csv', '--dicom-out', tmp_path/'sc', '--force', *more])==0
    asked(0)
    shutil.copy(clinic/'eye2.dcm', tmp_path/'sc/own.dcm')
    asked(1, '--identified')
    assert sorted(o.name for o in (tmp_path/'sc').iterdir())==['captures.csv','eye1_research.dcm','own.dcm']

def test_captures_that_were_stopped_do_not_look_whole(clinic, tmp_path, monkeypatch):
    "The table of an earlier call stood beside captures of two; those of a stopped call stayed for good"
    files = [clinic/f'eye{k}.dcm' for k in range(3)]
    def call(some): return main(['predict', RUN, *some, '--dicom-out', tmp_path/'sc', '--identified', '--force', '--out', tmp_path/'t.csv'])
    def there(): return {o.name for o in (tmp_path/'sc').iterdir()}
    def stop(f, *args, **kwargs):
        if f==str(files[1]): raise KeyboardInterrupt
        return plain(f, *args, **kwargs)
    plain,names = capture,[f'{o.stem}_research.dcm' for o in files]
    assert call(files[2:])==0
    with monkeypatch.context() as m:
        m.setattr(page, 'capture', stop)
        assert call(files[:2])==130
    assert there()=={'captures.csv.part',names[0],names[2]}
    assert call(files[1:2])==0 and there()=={'captures.csv',names[1]}

def test_each_shard_has_captures_and_a_table_of_its_own(clinic, tmp_path):
    "The same folder is named on all machines, and none forgets what another has written"
    files = [clinic/f'eye{k}.dcm' for k in range(3)]
    for k in (1,2): assert main(['predict', RUN, *files, '--shard', f'{k}/2', '--out', tmp_path/f't{k}.csv', '--dicom-out', tmp_path/'sc'])==0
    tables = [pd.read_csv(tmp_path/f'sc/{k}of2/captures.csv') for k in (1,2)]
    assert all((tmp_path/f'sc/{k}of2'/o).is_file() for k,t in enumerate(tables, 1) for o in t.capture)
    assert sorted({*pd.concat(tables).path})==list(map(str, files))
    assert main(['predict', RUN, *files, '--shard', '2/2', '--out', tmp_path/'t2.csv', '--dicom-out', tmp_path/'sc'])==1

def test_explanations_of_a_volume_have_a_file_each(clinic, tmp_path):
    assert main(['explain', RUN, clinic/'eye0.dcm', '--method', 'grad_cam', '--out', tmp_path/'maps'])==0
    assert sorted(o.name for o in (tmp_path/'maps').glob('*.png'))==[f'eye0_{k:03}_grad_cam.png' for k in (1,2,3)]

def test_a_caption_is_ascii_and_fits():
    im = captioned(np.zeros((40,30,3), np.uint8), ['ä'*300, 'b'])
    assert im.shape[1]==540 and im[:720].max()==0 and im[720:].max()>100 and im[720:,-8:].max()==0

def test_pooling_by_hand():
    "Two sure pictures and a dark one of an eye, one without an eye: the mean in logarithms, brought back to a sum of 1"
    from fundus_fastai.vision.answers import pool_answers
    t = pd.DataFrame(dict(path=['v#1','v#2','v#3','b'], patient=['7']*3+[None], eye=['L']*3+[None], volume=['v']*3+[None], usable=[True,True,False,True],
                          p_A=[.9,.6,np.nan,.2], p_B=[.1,.4,np.nan,.8], model='m'))
    t.attrs.update(kind='category', operating={}, points=None)
    r = pool_answers(t).set_index('path')
    odds = (9*1.5)**.5
    assert np.isclose(r.p_A['7 L'], odds/(1+odds)) and r.usable['7 L']==2 and r.images['7 L']==3 and np.allclose(r.p_A+r.p_B, 1) and r.prediction['b']=='B'

def test_pooling_of_labels_points_and_numbers_by_hand():
    "Labels in logits and cut at their own thresholds, numbers and points as they are; an eye of nobody stands alone"
    from fundus_fastai.vision.answers import pool_answers
    def pooled(kind, operating=None, **answers):
        t = pd.DataFrame(dict(path=list('abcd'), patient=['7','7','8',None], eye=['L','L','L','R'], usable=True, model='m', **answers))
        t.attrs.update(kind=kind, operating=operating or {}, points=None)
        r = pool_answers(t).set_index('path')
        assert r.index.tolist()==['7 L','8 L','d'] and r.images.tolist()==[2,1,1]
        return r
    r = pooled('multilabel', dict(thresholds=dict(x=.55, y=.3)), p_x=[.2,.9,.5,.1], p_y=[.1,.1,.4,.2])
    assert r.p_x.tolist()==pytest.approx([.6,.5,.1]) and r.p_y.tolist()==pytest.approx([.1,.4,.2]) # odds 1/4 and 9: 3/2
    assert r.prediction.tolist()==['x','y','none']
    r = pooled('number', pred=[50.,61.,40.,30.])
    assert r.pred.tolist()==[55.5,40,30] and r.prediction.tolist()==['55.5','40.0','30.0']
    assert pooled('ordered', dict(cuts=[.7,1.5]), pred=[.2,1.4,1.6,.1]).prediction.tolist()==['1','2','0']

def test_a_net_is_not_asked_of_the_other_kind_of_picture(tmp_path, capsys):
    "A photograph, as its header says, has no answer of a net of scans; nor the other way round"
    f = [write(tmp_path/'photo.dcm', phantom_fundus(seed=1, size=128).image[None]), write(tmp_path/'scan.dcm', scans(1))]
    t = predict_run(RUN, f)
    assert t.usable.tolist()==[False,True] and t.remark[0].endswith('is a photograph by its header, and this net knows scans')
    scan = Eye.read(f[1])
    assert eye_remark(False)(scan)=='is an OCT scan by its header, and this net knows photographs' and eye_remark(False)(Eye(scan.image))!=eye_remark(False)(scan)

def test_training_tells_the_other_kind_of_picture(tmp_path, capsys):
    "A net of photographs was trained on a volume without a word, and `predict` then refused what it had learned"
    from fundus_fastai.vision.steps import load_frame
    write(tmp_path/'a.dcm', phantom_fundus(seed=1, size=128).image[None], PatientID='a')
    write(tmp_path/'b.dcm', scans(3), PatientID='b')
    (tmp_path/'t.csv').write_text('file,grade\na.dcm,0\nb.dcm,1\n')
    assert len(load_frame('dr', tmp_path/'t.csv'))==4
    assert '3 of 4 images are of another kind than the task asks for: each is an OCT scan by its header' in capsys.readouterr().err
    with pytest.raises(DataError, match=r'\.\.\.\); leave them out of the table, or go on without --strict'): load_frame('dr', tmp_path/'t.csv', strict=True)
    load_frame('oct', tmp_path/'t.csv', label='grade')
    assert '1 of 4 images are of another kind than the task asks for: each is a photograph' in capsys.readouterr().err
