"What is told of an upload: every kind of answer, hostile files, one window that is covered; and nothing in a log"
import datetime, json, re, shutil, threading
import numpy as np, pytest
from concurrent.futures import ThreadPoolExecutor
from PIL import Image
import dicoms
from apps import NAME, RUN, hostile, run_of
from heard import Page
from fundus_fastai.app.page import Acts
from fundus_fastai.cli import main
from fundus_fastai.app.reader import MOST, NOTE, Reader, fit, render, without_folder
from fundus_fastai.core import DataError, EyeError, read_json
from fundus_fastai.phantom.fundus import phantom_fundus
from fundus_fastai.phantom.oct import phantom_oct
from fundus_fastai.score.calibration import at_temperature

@pytest.fixture(scope='module')
def reader(): return Reader(RUN)

@pytest.fixture(scope='module')
def eyes(tmp_path_factory):
    "A scan, and a photograph whose name is hostile"
    d = tmp_path_factory.mktemp('eyes')
    Image.fromarray(phantom_oct('DME', seed=1, size=(96,128)).image).save(d/'scan.png')
    Image.fromarray(phantom_fundus(['diabetic retinopathy'], 3, 2, size=400).image).save(d/NAME.replace('/', ''))
    return d

def test_hostile_files_are_rows_with_a_reason(reader, tmp_path, capsys):
    why = hostile(tmp_path)
    df = reader.answers([*(tmp_path/o for o in why), tmp_path/'whole.png'])
    told = reader.told(df)
    assert [o['usable'] for o in told]==[False]*len(why)+[True]
    for o,(name,word) in zip(told, why.items()): assert o['name']==name and word in o['remark'] and o['remark'] and 'prediction' not in o
    assert str(tmp_path) not in json.dumps(reader.record(df)) and 'Doe' not in json.dumps(told)
    assert not ''.join(capsys.readouterr()), "no name of an upload stands in a log"
    nothing = reader.answers([tmp_path/'text.png'])
    assert reader.told(nothing)[0]['usable'] is False
    with pytest.raises(DataError, match='no picture here'): reader.together(nothing)

def test_yes_or_no_at_a_working_point_is_told(reader, eyes):
    "By the points of the run; a note of another meaning is none, and a picture without an answer has none"
    points = read_json(RUN/'metrics.json')['operating_points']
    df = reader.answers([eyes/'scan.png'])
    o, = reader.told(df.assign(**{'looked at home':'maybe', 'seen':'yes'}))
    want = {f"{k['question']} at {k['goal']} {100*k['at_least']:.0f} %": 'yes' if df[f"p_{k['question']}"][0]>k['threshold'] else 'no' for k in points}
    assert o['decisions']==want and want and o['p']==pytest.approx({k:df[f'p_{k}'][0] for k in reader.names})
    html = Acts(reader).read([str(eyes/'scan.png')])[1]
    assert all(f'{k}: {v}' in html for k,v in want.items())

def test_a_photograph_gets_no_answer_of_a_net_of_scans_without_a_word(reader, eyes, tmp_path, capsys):
    "A JPEG of a fundus was answered CNV like any scan: only a hospital's header was looked at"
    photo = eyes/NAME.replace('/', '')
    df = reader.answers([photo, eyes/'scan.png'])
    doubt = 'is in color, as a photograph, and this net knows scans'
    assert df.usable.all() and [*df.remark]==[doubt,'']
    assert reader.record(df)['answers'][0]['remark']==doubt and doubt in reader.together(df)['remark']
    html = Acts(reader).read([str(photo), str(eyes/'scan.png')])[1]
    assert html.count('Careful: is in color')==1 and 'Careful: is in color' in reader.report(df.iloc[:1])
    assert main(['predict',str(RUN),str(photo),str(eyes/'scan.png'),'--out',str(tmp_path/'t.csv')])==0
    said = capsys.readouterr().err
    assert said.count('careful: an image may be') and doubt in said and 'scan.png' not in said

def test_two_patients_are_no_one_person(reader, tmp_path):
    "Files of two patients, ticked as one person's, were joined as R and L of one; what each says is told all the same"
    files = [dicoms.write(tmp_path/f'{k}.dcm', dicoms.scans(1, seed=k), PatientID='AAB'[k], Laterality='RLL'[k]) for k in range(3)]
    with pytest.raises(DataError, match='of 2 people, as their files or names say'): reader.together(reader.answers(files))
    kept,html = Acts(reader).read(list(map(str, files)), one=True)
    assert len(kept)==3 and 'data-answers="3"' in html and 'of 2 people' in html and 'one person' not in html
    assert reader.together(reader.answers(files[2:]))['name']=='one person, 1 picture, eyes: L'
    assert reader.together(reader.answers(files[:2]))['name']=='one person, 2 pictures, eyes: R and L'
    Image.fromarray(dicoms.scans(1)[0]).save(tmp_path/'scan.png')
    assert reader.together(reader.answers([tmp_path/'scan.png']))['name']=='one person, 1 picture, eyes: not told'
    df = reader.answers([files[0],tmp_path/'scan.png'])
    assert reader.together(df)['name']=='one person, 2 pictures, eyes: R, 1 not told', "which side the other is nobody knows"
    again = shutil.copy(files[1], tmp_path/'again.dcm')
    thrice = reader.together(reader.answers([*files[:2],again,again]))
    assert thrice['name']=='one person, 2 pictures, eyes: R and L; 2 copies left out', "what was sent thrice counted three times"
    once,one = reader.together(reader.answers(files[:2])),reader.told(reader.answers(files[1:2]))[0]
    assert thrice['p']==pytest.approx(once['p'], abs=1e-6) and once['p']!=pytest.approx(one['p'], abs=1e-3)
    (tmp_path/'text.png').write_text('I am a text')
    html = Acts(reader).read([str(tmp_path/'text.png')], one=True)[1]
    assert 'is not an image' in html and 'no picture here' in html, "the reasons were lost"

def test_a_volume_is_its_scans_and_a_patient_a_digest(reader, tmp_path):
    f = dicoms.write(tmp_path/'v.dcm', dicoms.scans(3))
    told = reader.told(reader.answers([f]))
    assert [o['name'] for o in told]==[f'v.dcm#{k}' for k in (1,2,3)] and {o['eye'] for o in told}=={'L'}
    assert reader.together(reader.answers([f,f]))['name']=='one person, 3 pictures, eyes: L; 3 copies left out'
    assert all(o['usable'] for o in told) and '4711' not in str(told) and len({o['patient'] for o in told})==1
    with pytest.raises(DataError, match=f'{MOST+1} pictures are too many at once, each scan of a volume being one: send at most {MOST}'): reader.answers([dicoms.write(tmp_path/'w.dcm', dicoms.scans(1).repeat(MOST+1, 0))])
    im,words = reader.explain(f'{f}#2')
    assert im.ndim==3 and 'A map is not proof' in words

def test_whose_an_upload_is_does_not_depend_on_its_place(reader, eyes, tmp_path):
    "Five uploads of one name may be five people's: they are answered four at a time"
    files = [tmp_path/str(k)/'visit1_OD.png' for k in range(5)]
    for f in files: f.parent.mkdir(); shutil.copy(eyes/'scan.png', f)
    told = reader.told(reader.answers(files))
    assert len(told)==5 and not any('patient' in o for o in told) and {o['eye'] for o in told}=={'R'}

@pytest.mark.parametrize('task', ['oct','age','sex_age','dr','dr_ordered','diseases'])
def test_every_kind_of_answer(task, tmp_path, eyes):
    r = Reader(run_of(tmp_path, task))
    f = eyes/('scan.png' if task=='oct' else NAME)
    df = r.answers([f,f])
    o = r.told(df)[0]
    assert o['prediction']==df.prediction[0] and o['name']==f.name and not r.phantom
    number = dict(age='age', sex_age='years', dr_ordered='grade').get(task)
    assert o.get('unit')==number and ('value' in o)==bool(number) and ('p' in o)==(task not in ('age','dr_ordered'))
    json.dumps(r.record(df), allow_nan=False)
    for m in r.methods[:2]: assert r.explain(f, m, name=r.names[-1])[0].dtype==np.uint8
    im,rows = r.covered(f, (.5,.5))
    assert all(np.isfinite(o[1:]).all() for o in rows) and im.shape==r.view(f).shape
    p = {**o.get('p', {}), **({number:o['value']} if number else {})}
    assert all(abs(dict((k,v) for k,v,_ in rows)[k]-v)<1e-4 for k,v in p.items())
    if task=='sex_age':
        with pytest.raises(DataError, match='two questions'): r.together(df)
    else: assert r.together(df)['prediction']==o['prediction']
    html = r.report(df[:1])
    if number:
        assert f"<p>{number}: {o['value']:.2f}</p>" in html, "the age beside a sex stood nowhere on the page"
        for k in r.names:
            said = r.explain(f, name=k)[1]
            assert (f'for a higher {k},' in said and said.endswith(f' {number}. A map is not proof.')) if k==r.names[-1] else said.endswith(' logit. A map is not proof.')
    assert Page(html).faults==[]
    assert '<img src=1' not in html and NOTE in html and 'PHANTOM' not in html
    assert f'Made on {datetime.date.today()}. Net: ' in html

def test_a_map_is_told_in_words(reader, eyes):
    "Where it is strongest, for who does not see it; and the page's alternative text is not its caption once more"
    words = reader.explain(eyes/'scan.png')[1]
    assert re.search(r'strongest (for|against) it (upper|lower|left|right|middle)', words)
    html = reader.report(reader.answers([eyes/'scan.png']))
    p = Page(html)
    assert p.faults==[] and html.count(words.replace("'", '&#39;'))==1 and len({*p.alts})==2
    assert p.title.startswith('PHANTOM: ') and 'role="alert">PHANTOM' in html

def test_a_covered_window_is_that_of_the_map(tmp_path, eyes):
    "Of a photograph, too, where only the eye is covered"
    r = Reader(run_of(tmp_path, 'dr'))
    w,st = 9,4
    om = r.learn.occlude([eyes/NAME], w, st, inside='field', output='prob', progress=False)
    for i,j in ((3,5),(6,7),(8,4)): # windows of the map, by their middles
        rows = r.covered(eyes/NAME, ((j*st+w/2)/64,(i*st+w/2)/64))[1]
        assert np.allclose([a-b for _,a,b in rows], om.values[0,:,i,j], rtol=0, atol=1e-6) and om.values[0,:,i,j].abs().max()>5e-5
    for at in ((-3,0),(1,1),(9,9)): r.covered(eyes/NAME, at) # a click at the edge

def test_calibrated_as_validation_patients_say(reader, eyes, monkeypatch):
    df = reader.answers([eyes/'scan.png'])
    assert reader.T is None and reader.told(df)[0]['calibrated'] is None # its temperature is at the end of the range: no result
    monkeypatch.setattr(reader, 'T', 3.)
    o,want = reader.told(df)[0],at_temperature(df, 3., 'category')
    assert o['calibrated']=={k:want[f'p_{k}'][0] for k in o['p']}!=o['p'] and o['prediction']==df.prediction[0]
    assert dict((k,v) for k,v,_ in reader.covered(eyes/'scan.png', (.5,.5))[1])==pytest.approx(o['calibrated'], abs=1e-4)

def test_labels_are_calibrated_and_the_map_is_of_one_that_is_answered(tmp_path, eyes):
    "The likeliest label above its threshold; where none is, the likeliest, and that is told"
    r = Reader(run_of(tmp_path, 'diseases'))
    r.T = 3.
    o,names = r.told(r.answers([eyes/NAME]))[0],r.names
    assert o['calibrated']==pytest.approx({k:1/(1+(1/v-1)**(1/3)) for k,v in o['p'].items()})
    rows = r.covered(eyes/NAME, (.5,.5))[1]
    assert {k:a for k,a,_ in rows}==pytest.approx(o['calibrated'], abs=1e-4)
    first,*_,last = sorted(names, key=lambda k: -o['p'][k])
    for at,label,answered in ((dict.fromkeys(names, 1.), first, False), (dict.fromkeys(names, 1.)|{last:0.}, last, True), (dict.fromkeys(names, 0.), first, True)):
        r.config['operating'] = dict(thresholds=at)
        assert f"speaks for {label}{'' if answered else ' (likeliest, not answered)'}, blue" in r.explain(eyes/NAME, 'grad_cam')[1]
    r.config['operating'] = {}
    assert f'speaks for {last}, blue' in r.explain(eyes/NAME, 'grad_cam', name=last)[1], "whoever asks for a label is told of that"

def test_lesions_landmarks_and_whose_eye(reader, eyes, tmp_path):
    im,rows = reader.anatomy(eyes/NAME)
    rows = dict(rows)
    assert rows['eye'] in 'LR' and rows['landmarks']=='found' and sum(int(v) for k,v in rows.items() if 'rings' in k)>0
    other = dict(L='R', R='L')[rows['eye']]
    assert dict(reader.anatomy(eyes/NAME, other)[1])['careful']==f"its file says {other}, and the disc lies as in {rows['eye']}"
    for o in (rows['eye'], None, float('nan')): assert 'careful' not in dict(reader.anatomy(eyes/NAME, o)[1]) # a name that tells no side
    for o,says in ((eyes/'scan.png','is gray'), (tmp_path/'gone.png','does not exist')):
        with pytest.raises(DataError, match=f'^{says}'): reader.anatomy(o)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (300,300,3), np.uint8)).save(tmp_path/'noise.png')
    with pytest.raises(DataError): reader.anatomy(tmp_path/'noise.png')

def test_pictures_are_made_small_and_paths_left_out():
    assert fit(np.zeros((100,2000), np.uint8)).shape==(45,900,3) and fit(np.zeros((10,20,3), np.uint8)).shape==(10,20,3)
    assert without_folder('/a/b/c.png is small', '/a/b/c.png')=='is small' and without_folder('see /a/b/d', '/a/b/c.png')=='see d'

def test_pages_tell_probabilities_as_they_are():
    "1.0 is certain, .9999 is not; a report is made for phones and for paper, too"
    told = dict(name='a.png', usable=True, remark='', prediction='DME', p=dict(DME=.99987, CNV=.00013), calibrated=None, decisions={})
    page = render('answers.html.j2', answers=[told], error='')
    assert '>over 99.9 %<' in page and '>under 0.1 %<' in page
    page = render('report.html.j2', note=NOTE, phantom=True, question='?', terms='', net='', date='', answers=[told])
    assert 'name="viewport"' in page and '@media print' in page and 'over 99.9 %' in page

def test_a_run_that_is_none(tmp_path):
    with pytest.raises(EyeError): Reader(tmp_path)

def test_all_is_computed_in_one_thread(reader, eyes, monkeypatch):
    "Whoever asks: so memory does not grow with the threads of a server"
    seen,real = set(),reader.learn.predict_frame
    monkeypatch.setattr(reader.learn, 'predict_frame', lambda *a, **kw: (seen.add(threading.get_ident()), real(*a, **kw))[1])
    with ThreadPoolExecutor(6) as pool: a = [*pool.map(lambda k: reader.answers([eyes/'scan.png']).prediction[0], range(12))]
    reader.report(reader.answers([eyes/'scan.png']))
    assert seen=={reader.ident}!={threading.get_ident()} and len(set(a))==1
    with pytest.raises(DataError): reader.view(eyes/'gone.png') # what goes wrong there is told here

def test_the_card_is_shown_without_what_the_hub_reads(tmp_path):
    "Its YAML stood on the page as a heap of words"
    shutil.copytree(RUN, run := tmp_path/'run')
    (run/'README.md').write_text('---\nlicense: apache-2.0\ntags:\n- retina\n---\n\n# oct\n\n---\n\nLimits\n')
    assert Reader(run).card=='\n# oct\n\n---\n\nLimits\n'
    (run/'README.md').write_bytes('p <0.05, Müller ![a](http://x/a.png) ![b][c] <img src="http://x/b.png"><form action="http://x">'.encode('latin1'))
    card = Reader(run).card # of somebody else, as from the hub: its pictures were fetched from wherever they lie
    assert '![' not in card and '<img' not in card and '<form' not in card and 'p <0.05' in card
