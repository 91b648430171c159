"Fundus phantoms at size: the same for the same arguments, true to their masks, and telling nothing by what no eye needs to see"
import cv2, numpy as np, pandas as pd, pytest
from PIL import Image
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from fundus_fastai.core import EyeError
from fundus_fastai.image.read import read_image
from fundus_fastai.phantom.fundus import (CAMERAS, FUNDUS_LESIONS, LABELS, Frame, _photo, encode_fundus, fundus_truth, phantom_fundus,
                                          phantom_patient, save_fundus)
from fundus_fastai.phantom.layouts import write_layout

cv2.setNumThreads(1)
N = 1200

def dull(o):
    "What a reader knows who sees no eye: mean colors, border, size of picture and file"
    im,px = o.image,o.image[o.field]
    rim = np.concatenate([im[0], im[-1], im[:,0], im[:,-1]])
    return [*im.reshape(-1,3).mean(0), *px.mean(0), px.mean(1).std(), *rim.mean(0), rim.std(), *im.shape[:2],
            len(encode_fundus(o, '.jpg')), len(encode_fundus(o, '.png'))]

@pytest.fixture(scope='module')
def crowd():
    "Dull features, labels and patients of many eyes"
    eyes = (phantom_fundus(seed=11, patient=1+i//2, eye='LR'[i%2], size=96) for i in range(N))
    rows = [(dull(o), {**o.labels, 'female':o.sex=='female', 'referable':o.grade>=2, 'old':o.age>60}, o.patient) for o in eyes]
    x,y,g = zip(*rows)
    return np.array(x, float),pd.DataFrame(y).astype(int),np.array(g)

blind = dict(linear=make_pipeline(StandardScaler(), LogisticRegression(class_weight='balanced', max_iter=500)),
             trees=ExtraTreesClassifier(60, max_depth=5, class_weight='balanced', random_state=0))

def guess(reader, x, y, groups):
    "Cross-validated balanced accuracy and its standard error; patients stay together"
    p = cross_val_predict(blind[reader], x, y, groups=groups, cv=GroupKFold(5))
    se = .5*np.sqrt(sum(v*(1-v)/n for v,n in ((np.mean(p[y==k]==k), (y==k).sum()) for k in (0,1))))
    return balanced_accuracy_score(y, p),se

@pytest.mark.parametrize('reader', blind)
def test_nothing_dull_tells_a_label(crowd, reader):
    "No label, nor sex, age or referral, is told by color, border or size beyond five points over chance"
    x,y,g = crowd
    found = pd.DataFrame({k:guess(reader, x, y[k].to_numpy(), g) for k in y}, index=['accuracy','se']).T
    assert (found.accuracy-1.64*found.se<.55).all(), found
    assert abs(found.accuracy.mean()-.5)<.025, found

@pytest.mark.parametrize('reader', blind)
def test_the_blind_reader_can_read(crowd, reader):
    "The readers of the test above do find a leak where one is planted"
    x,y,g = crowd
    leaky = np.c_[x, y.opacity+np.random.default_rng(0).normal(0, 2, N)]
    assert guess(reader, leaky, y.opacity.to_numpy(), g)[0]>.57

def test_labels_are_as_common_as_they_should_be(crowd):
    y = crowd[1]
    vietai = dict(zip(LABELS, np.array([1533,755,597,516,574,440,525])/3435))
    assert all(abs(y[k].mean()-v)<.08 for k,v in vietai.items())
    assert .4<y.female.mean()<.6

@pytest.mark.parametrize('camera', CAMERAS)
def test_same_arguments_same_picture(camera):
    a,b = (phantom_fundus(['diabetic retinopathy','opacity'], seed=5, patient=7, grade=3, camera=camera, size=128) for _ in 'ab')
    assert (a.image==b.image).all() and a.masks.keys()==b.masks.keys() and a.angles==b.angles and a.bits==b.bits
    c = phantom_fundus(['diabetic retinopathy','opacity'], seed=6, patient=7, grade=3, camera=camera, size=128)
    assert (a.image!=c.image).any()

def test_a_seed_draws_what_it_drew_before():
    "Published numbers are of these pictures: who draws others, raises the recipe of the layouts, and these numbers"
    o = phantom_fundus([k for k in LABELS if k!='normal'], 1, 3, grade=4, camera='notched', size=192)
    green = [[9,40,48,36,8], [41,71,73,67,38], [57,100,103,92,56], [36,71,65,68,46], [9,41,56,61,10]]
    pixels = dict(atrophy=672, cotton_wool_spot=87, cupping=266, drusen=395, edema=781, hard_exudate=268, hemorrhage=3255, microaneurysm=92, neovascularization=240)
    assert np.abs(cv2.resize(o.image[...,1], (5,5), interpolation=cv2.INTER_AREA)-np.array(green, float)).max()<=2
    assert {k:m.sum() for k,m in o.masks.items()}==pytest.approx(pixels, rel=.03, abs=2)
    assert {k:m.sum() for k,m in o.vessels.items()}==pytest.approx(dict(artery=344, vein=918), rel=.03)
    assert (*o.disc,*o.cup,*o.fovea)==(117,84,138,108, 118,87,135,106, 64,91,83,111) and o.angles==pytest.approx(dict(artery=151.138, vein=143.138), abs=.001)
    assert (o.sex,o.age,o.haze)==('male',pytest.approx(51.177, abs=.001),pytest.approx(.5061, abs=.0001))

signs = {'macular degeneration':{'drusen','atrophy','neovascular_amd'}, 'glaucoma':{'cupping'},
         'macular edema':{'edema'}, 'retinal vascular occlusion':{'hemorrhage'}}

@pytest.mark.parametrize('label', signs)
def test_labels_follow_from_lesions(label):
    "A label leaves a sign of its own in the field, and a normal eye none"
    for k in range(1, 13):
        o = phantom_fundus([label], seed=8, patient=k, size=192)
        assert signs[label] & set(o.masks), (k, set(o.masks))
        assert all(m.any() and not (m&~o.field).any() for m in o.masks.values())
        assert set(o.masks)<=set(FUNDUS_LESIONS)
        assert not phantom_fundus(['normal'], seed=8, patient=k, size=192).masks

def test_grades_grow():
    "A higher grade shows more, and grade 4 alone new vessels"
    eyes = {g:[phantom_fundus(['diabetic retinopathy'], seed=9, patient=k, grade=g, size=192) for k in range(1, 9)] for g in range(1, 5)}
    area = [np.mean([o.mask.mean() for o in eyes[g]]) for g in (1,2,3)]
    assert area[0]<area[1]<area[2]
    assert not any('neovascularization' in o.masks for g in (1,2,3) for o in eyes[g])
    assert sum('neovascularization' in o.masks for o in eyes[4])>=6
    assert all(set(o.masks)=={'microaneurysm'} for o in eyes[1])

def test_lesions_are_seen():
    "Where a mask says hemorrhage the picture is darker than around it, and where it says exudate lighter"
    def contrast(name, label, **kw):
        out = []
        for k in range(1, 9):
            o = phantom_fundus([label], seed=10, patient=k, size=384, **kw)
            m = o.masks.get(name)
            if m is None or m.sum()<30: continue
            ring = cv2.dilate(m.astype(np.uint8), np.ones((15,15)))>0
            ring &= ~cv2.dilate(o.mask.astype(np.uint8), np.ones((3,3))).astype(bool)&o.field
            out.append(float(o.image[m][:,1].mean())-float(o.image[ring][:,1].mean()))
        return out
    dark = contrast('hemorrhage', 'diabetic retinopathy', grade=3)
    light = contrast('hard_exudate', 'diabetic retinopathy', grade=3)+contrast('drusen', 'macular degeneration')
    assert len(dark)>4 and np.median(dark)<-4, dark
    assert len(light)>6 and np.median(light)>4, light

def test_two_eyes_of_a_patient():
    "Mirrored as eyes are, with shared traits and their own lesions"
    for k in range(1, 9):
        r,l = (phantom_fundus(['normal'], seed=3, patient=k, eye=e, size=160) for e in 'RL')
        assert r.disc[0]>r.fovea[0] and l.disc[0]<l.fovea[0] and (r.sex,r.age)==(l.sex,l.age)
        assert abs(r.angles['artery']-l.angles['artery'])<20 and (r.image!=l.image[:,::-1]).any()

@pytest.mark.parametrize('eye', 'RL')
@pytest.mark.parametrize('view', [None,'near_disc'])
def test_truth_lies_where_it_is_painted(eye, view):
    "The middle of the fovea's box is the fovea, in either eye; no vessel runs beyond the field"
    off = []
    for k in range(1, 17):
        o,v = phantom_fundus(['normal'], 0, k, eye=eye, size=96, camera=view),_photo(0, k, eye, 1, view)
        g,(x0,y0,x1,y1) = Frame(96, v.cx, v.cy, v.mm),o.fovea
        off.append(((x0+x1-1)/2-(g.fx if eye=='R' else 95-g.fx), (y0+y1-1)/2-g.fy))
        assert not any((m&~o.field).any() for m in o.vessels.values())
    assert np.abs(off).max()<=.51 and np.abs(np.mean(off, 0)).max()<.25, np.mean(off, 0)

def test_sex_and_age_leave_traces():
    "The arcades of women meet at a smaller angle; the traits themselves are drawn once a patient"
    people = [phantom_patient(4, k) for k in range(1, 401)]
    angle = pd.Series([p.angle for p in people]).groupby([p.sex for p in people]).mean()
    assert 10<angle['male']-angle['female']<22
    assert np.corrcoef([p.age for p in people], [p.tortuosity for p in people])[0,1]>.4

@pytest.mark.parametrize('suffix', ['.jpg','.png'])
def test_file_has_the_size_that_was_drawn(tmp_path, suffix):
    "A file is as large as was drawn, can be read, and says in a comment what it is"
    (tmp_path/'truth').mkdir()
    sizes = {}
    for label in ('normal','opacity'):
        o = phantom_fundus([label], seed=2, patient=4, size=256)
        f = tmp_path/f'{label}{suffix}'
        save_fundus(o, f, tmp_path/'truth'/f'{label}.npz')
        sizes[label] = f.stat().st_size
        with Image.open(f) as im:
            im.load()
            assert im.size==(256,256) and 'PHANTOM' in str(im.info.get('comment') or im.text['Comment'])
        assert np.abs(np.asarray(read_image(f)).astype(int)-o.image).mean()<6
        assert fundus_truth(f).labels==o.labels
    assert abs(sizes['normal']-sizes['opacity'])<10

def test_written_sets_do_not_tell_by_bytes(tmp_path):
    "In a written set the bytes a pixel follow from what was drawn, not from haze or lesions"
    for name in ('odir5k','aptos2019'):
        to = tmp_path/name
        write_layout(name, to, patients=10, seed=3)
        for f in pd.read_csv(to/'truth.csv').path:
            o = fundus_truth(to/f); n = len(o.image)
            want = (11+3*o.bits if f.endswith('.png') else o.bits*(512/n)**.6)*n*n/8
            assert abs((to/f).stat().st_size/want-1)<.03, (f, o.haze)

def test_wrong_wishes_are_named():
    for kw,said in ((dict(labels=['normal','glaucoma']),'no other label'), (dict(labels=['glaucomaa']),'did you mean glaucoma'),
                    (dict(labels=['glaucoma'], grade=2),"needs the label"), (dict(camera='zoom'),'camera'), (dict(size=20),'too small'),
                    (dict(eye='X'),'eye'), (dict(labels=['diabetic retinopathy'], grade=7),'0 to 4')):
        with pytest.raises(EyeError, match=said): phantom_fundus(**kw)

@pytest.mark.parametrize('wish', [dict(age=-3), dict(age='old'), dict(seed=-1), dict(patient=-1), dict(photo=-1), dict(size=128.),
                                  dict(grade='2'), dict(grade=2.5), dict(grade=-1)])
def test_wrong_numbers_are_named(wish):
    with pytest.raises(EyeError, match=f'`{next(iter(wish))}`'): phantom_fundus(**dict(labels=['diabetic retinopathy']) | wish)

def test_one_label_needs_no_list():
    "Its letters had been taken for labels"
    assert (phantom_fundus('glaucoma', size=64).image==phantom_fundus(['glaucoma'], size=64).image).all()
    with pytest.raises(EyeError, match='did you mean glaucoma'): phantom_fundus('glaucomaa')
