"OCT phantoms: what many draws must hold, and the written folder under bad weather"
import json, os
import cv2, numpy as np, pytest
from fundus_fastai.core import DataError, EyeError
from fundus_fastai.phantom import oct
from fundus_fastai.phantom.oct import CLASSES, LESIONS, oct_truth, phantom_oct, write_kermany

small = (124,128)
tiny = dict(patients=8, size=(64,64), scans=(2,3))

@pytest.mark.parametrize('label', CLASSES)
def test_deterministic(label):
    a,b = (phantom_oct(label, seed=3, patient=7, scan=2, size=small) for _ in range(2))
    assert (a.image==b.image).all() and a.severity==b.severity and a.masks.keys()==b.masks.keys()
    assert all((a.masks[k]==b.masks[k]).all() for k in a.masks)

@pytest.mark.parametrize('label,gray,rows,pixels', [
    ('CNV', [[20,20,20,20], [64,40,57,72], [65,73,57,52], [23,26,24,21]], [88,91,96,99,102,109,112,124,129,159], dict(cnv=698, subretinal_fluid=1248, subrpe_fluid=605)),
    ('DME', [[19,18,19,19], [62,42,55,73], [63,71,67,52], [22,25,26,21]], [85,88,94,100,103,116,119,126,129,159], dict(cyst=706, exudate=21, subretinal_fluid=745)),
    ('DRUSEN', [[20,19,20,20], [62,38,44,72], [63,71,76,53], [23,26,26,22]], [95,98,104,107,110,117,120,124,129,159], dict(drusen=631)),
    ('NORMAL', [[20,20,20,20], [63,39,40,69], [64,72,75,54], [23,26,27,22]], [96,99,105,108,111,119,122,126,129,159], {})])
def test_a_seed_draws_what_it_drew_before(label, gray, rows, pixels):
    "Published numbers are of these pictures: who draws others, raises `RECIPE`, and these numbers"
    o = phantom_oct(label, 1, 3, size=(248,256))
    assert np.abs(cv2.resize(o.image, (4,4), interpolation=cv2.INTER_AREA)-np.array(gray, float)).max()<=2
    assert {k:m.sum() for k,m in o.masks.items()}==pytest.approx(pixels, rel=.03, abs=2)
    assert [v.mean() for v in o.layers.values()]==pytest.approx(rows, abs=.7)

def test_no_global_random_state():
    np.random.seed(0); state = np.random.get_state()[1].copy()
    phantom_oct('DME', size=small)
    assert (np.random.get_state()[1]==state).all()

@pytest.mark.parametrize('label', CLASSES)
@pytest.mark.parametrize('size', [small, (124,192), (124,223), (200,160)])
def test_truth(label, size):
    for patient in range(12):
        for severity in (None, 0., 1.):
            o = phantom_oct(label, seed=11, patient=patient, severity=severity, size=size)
            assert o.image.shape==size and o.image.dtype==np.uint8
            rows = np.stack(list(o.layers.values()))
            assert rows.shape==(10,size[1]) and (np.diff(rows,axis=0)>=-1e-3).all()
            assert rows[0].min()>=0 and rows[:-1].max()<size[0], (patient, severity)
            assert set(o.masks)<=set(LESIONS) and all(m.dtype==bool and m.shape==size and m.any() for m in o.masks.values())
            assert bool(o.masks)==(label!='NORMAL') and (o.image[o.mask]<255).any()==(label!='NORMAL')

def test_lesions_lie_where_medicine_puts_them():
    for patient in range(10):
        o = phantom_oct('DRUSEN', patient=patient); y,x = np.nonzero(o.masks['drusen'])
        assert (y+1>=o.layers['rpe'][x]).all() and (y<=o.layers['bruch'][x]).all()
        o = phantom_oct('DME', patient=patient); y,x = np.nonzero(o.masks['cyst'])
        assert (y+2>=o.layers['ipl_inl'][x]).mean()>.99 and (y-2<=o.layers['elm'][x]).mean()>.99
        o = phantom_oct('CNV', patient=patient); y,x = np.nonzero(o.masks['subretinal_fluid'])
        assert (y>=o.layers['ez'][x]).all() and (y<=o.layers['rpe'][x]).all()

def test_fluid_is_dark_and_visible():
    for patient in range(6):
        o = phantom_oct('DME', patient=patient, severity=.7); m = o.masks['cyst']
        ring = cv2.dilate(m.astype(np.uint8), np.ones((13,13)))>0
        assert o.image[m].mean() < .8*o.image[ring&~o.mask].mean()

def test_patients_and_seeds_differ():
    ims = [phantom_oct('NORMAL', seed=s, patient=p, scan=k, size=small).image for s in (0,1) for p in (1,2) for k in (1,2)]
    assert all((a!=b).mean()>.5 for i,a in enumerate(ims) for b in ims[:i])

def test_only_the_lesion_differs():
    a,b = (phantom_oct(c, patient=3, severity=.2) for c in ('NORMAL','DRUSEN'))
    assert a.eye==b.eye and np.abs(a.layers['bruch']-b.layers['bruch']).max()<1

def test_a_set_of_scans_that_are_too_wide(tmp_path):
    "Some patients' scans are half as wide again: told before anything is drawn"
    with pytest.raises(DataError, match='too wide'): write_kermany(tmp_path/'k', 8, size=(64,112))
    assert not any(tmp_path.iterdir())
    df = write_kermany(tmp_path/'k', 8, size=(64,112), wide=0, scans=(2,2))
    assert ((df[LESIONS].sum(axis=1)>0)==(df.label!='NORMAL')).all()

def test_write_reuse_refuse(tmp_path):
    to = tmp_path/'k'; df = write_kermany(to, **tiny)
    assert set(df.split)<={'train','valid','test'} and not df.path.duplicated().any() and df.label.value_counts().nunique()==1
    pro = json.loads((to/'PROVENANCE.json').read_text())
    assert pro['source']=='phantom' and pro['name']=='kermany2018' and pro['patients']==8
    stamps = {p:os.stat(p).st_mtime_ns for p in df.path}
    assert write_kermany(to, **tiny).equals(df) and {p:os.stat(p).st_mtime_ns for p in df.path}==stamps
    with pytest.raises(DataError, match='seed is 0 there'): write_kermany(to, seed=1, **tiny)
    (to/'PROVENANCE.json').write_text(json.dumps(pro|dict(name='odir5k', seed=3)))
    with pytest.raises(DataError, match=r'data set \(name is odir5k there, kermany2018 is wanted\)'): write_kermany(to, **tiny) # not each number of another set
    other = write_kermany(tmp_path/'k1', seed=1, **tiny)
    assert not set(df.patient)&set(other.patient)
    (tmp_path/'mine').mkdir(); (tmp_path/'mine'/'a.txt').write_text('keep')
    with pytest.raises(DataError, match='other things'): write_kermany(tmp_path/'mine', **tiny)
    (tmp_path/'file').write_text('keep')
    with pytest.raises(DataError): write_kermany(tmp_path/'file', **tiny)
    (tmp_path/'empty').mkdir(); assert len(write_kermany(tmp_path/'empty', **tiny))==len(df)
    assert not [p for p in tmp_path.iterdir() if p.name.startswith('.')]

def test_same_bytes_twice(tmp_path):
    a,b = write_kermany(tmp_path/'a', **tiny), write_kermany(tmp_path/'b', **tiny)
    assert all(open(p,'rb').read()==open(q,'rb').read() for p,q in zip(a.path, b.path))

def test_interrupted_leaves_nothing(tmp_path, monkeypatch):
    def full(*args): raise OSError(28, 'No space left on device')
    monkeypatch.setattr(oct, '_save_truth', full)
    with pytest.raises(OSError): write_kermany(tmp_path/'k', **tiny)
    assert not list(tmp_path.iterdir())

def test_truth_round_trip(tmp_path):
    df = write_kermany(tmp_path/'k', **tiny)
    for r in df.itertuples():
        o = oct_truth(r.path)
        assert (o.label, str(o.patient), o.eye)==(r.label, r.patient, r.eye)
        assert all(getattr(r,n)==(o.masks[n].sum() if n in o.masks else 0) for n in LESIONS)
    want = phantom_oct(r.label, 0, int(r.patient), scan=1, size=(64,96) if o.image.shape[1]==96 else (64,64))
    assert list(o.layers)==list(want.layers)
    f = tmp_path/'k'/'truth'/(os.path.basename(r.path)[:-5]+'.npz'); f.write_bytes(f.read_bytes()[:100])
    with pytest.raises(DataError, match='cannot be read'): oct_truth(r.path)
    np.savez(f, shape=0) # no shape of a picture
    with pytest.raises(DataError, match='cannot be read'): oct_truth(r.path)
    raw = bytearray(f.read_bytes())
    raw[raw.find(b'PK\1\2')+8] |= 1 # called encrypted
    f.write_bytes(raw)
    with pytest.raises(DataError, match='cannot be read'): oct_truth(r.path)
    assert oct_truth(tmp_path/'nowhere.jpeg') is None

@pytest.mark.parametrize('leak', [0., .5, 1.])
def test_leak_is_what_was_asked(leak):
    df = oct._publish(oct._patients(80, 2, (2,5), .05, .2), leak, 2)
    sides = df.groupby('patient').split.agg(set); test = [s for s in sides if 'test' in s]
    assert np.mean(['train' in s for s in test])==pytest.approx(leak, abs=.05)
    assert set(df.split)=={'train','valid','test'} and df.path.is_unique

def test_bad_arguments(tmp_path):
    for bad in (dict(patients=7), dict(patients=10_001), dict(seed=-1), dict(scans=(1,2)), dict(scans=(4,3)), dict(leak=-.1), dict(wide=2)):
        with pytest.raises(DataError): write_kermany(tmp_path/'k', **bad)
    with pytest.raises(DataError, match='64'): phantom_oct(size=(63,512))
    for size in ((124,224),(496,1536),(64,1000),(124,1024)):
        with pytest.raises(DataError, match='too wide.*at most'): phantom_oct('CNV', size=size)
    with pytest.raises(EyeError, match='did you mean'): phantom_oct('DRUSE')

@pytest.mark.parametrize('wish', [dict(seed=-1), dict(seed='a'), dict(patient=-1), dict(patient=1.5), dict(scan=-1), dict(size=224),
                                  dict(size=(124,)), dict(size='124,128'), dict(severity='gross'), dict(severity=float('nan'))])
def test_wrong_numbers_are_named(wish):
    "They had ended in numpy's sentences, or in a TypeError"
    with pytest.raises(DataError, match=next(iter(wish))): phantom_oct('DME', **dict(size=small) | wish)

def test_sizes_that_are_not_whole_are_named():
    for size in ((124.,128), (124,'128')):
        with pytest.raises(DataError, match='`(height|width)` is to be a whole number'): phantom_oct(size=size)
    assert (phantom_oct(size=np.array(small)).image==phantom_oct(size=[*small]).image).all()
