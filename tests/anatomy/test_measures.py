"Measures of vessels: closed forms, the angles of drawn eyes, and NaN with a reason"
import cv2, errno, numpy as np, pandas as pd, pytest
from pathlib import Path
from types import SimpleNamespace
import fundus_fastai.phantom.fundus as phantoms
from fundus_fastai.anatomy import measures
from fundus_fastai.anatomy.landmarks import Landmarks, landmarks
from fundus_fastai.anatomy.atlas import Maps, same_files
from fundus_fastai.anatomy.biomarkers import with_table
from fundus_fastai.anatomy.measures import (CIRCLES, COLUMNS, FEATURES, axis_of, calibers, crossings, followed, hubbard, knudtson,
                                            trunk_angles, turned, vessel_features, vessel_table)
from fundus_fastai.anatomy.graph import fractal_dimension
from fundus_fastai.anatomy.vessels import Vessels, vessels
from fundus_fastai.cli import main
from fundus_fastai.core import DataError
from fundus_fastai.image.recipe import field_mask
from fundus_fastai.phantom.fundus import phantom_fundus, save_fundus
from fundus_fastai.vision.answers import RowFile

cv2.setNumThreads(1)

def test_knudtson_in_closed_form():
    for kind,f in (('artery',.88),('vein',.95)):
        k = f*2**.5
        assert np.isclose(knudtson([7]*4, kind), 7*k*k) and np.isclose(knudtson([7], kind), 7)
        a,b,c = f*np.hypot(12, 2),f*np.hypot(10, 4),f*np.hypot(8, 6) # widest with narrowest
        a,b,c = sorted((a, b, c))
        assert np.isclose(knudtson([12,10,8,6,4,2], kind), f*np.hypot(*sorted((f*np.hypot(a, c), b))))
        assert np.isclose(knudtson([24,20,16,12,8,4], kind), 2*knudtson([12,10,8,6,4,2], kind)) # no unit

def test_hubbard_wants_micrometers():
    for kind in ('artery','vein'):
        with pytest.raises(DataError, match='mm_per_pixel'): hubbard([5,6], kind)
        assert np.isclose(hubbard([5,6], kind, .02), hubbard([10,12], kind, .01)) # the same vessels in another camera
        assert not np.isclose(hubbard([5,6], kind, .02), 2*hubbard([5,6], kind, .01))
    assert 'crae_hubbard' not in calibers(pd.DataFrame(dict(width=[9.]*8, artery=[1,0]*4)))

def test_hubbard_as_it_is_printed():
    "Of two vessels of 100 and 150 micrometers: .87 a^2+1.01 b^2-.22 ab-10.76, and .72 a^2+.91 b^2+450.05, by hand; the narrower is a"
    assert hubbard([75,50], 'artery', .002)==pytest.approx(28114.24**.5) and hubbard([75,50], 'vein', .002)==pytest.approx(28125.05**.5)
    assert hubbard([75,50,60], 'vein', .002)==pytest.approx((.72*120**2+.91*28125.05+450.05)**.5) # the middle one waits

def test_the_axis_of_an_eye():
    "From disc to fovea, clockwise; a fovea that is not seen lies at the side of the eye"
    def axis(eye, *fovea): return axis_of(Landmarks(100, 100, 20, 20, 0, *(fovea or (np.nan,np.nan)), eye))
    assert axis('R', 50, 150)==axis('L', 50, 150)==pytest.approx(135) and axis('R')==180 and axis('L')==0 and np.isnan(axis(None))

def test_crossings_of_a_wheel():
    y,x = np.mgrid[:301,:301]-150.
    t = np.deg2rad(np.array([0,45,200]))[:,None,None]
    m = ((np.abs(y*np.cos(t)-x*np.sin(t))<4.5)&(x*np.cos(t)+y*np.sin(t)>0)).any(0)
    c = crossings(m, (150,150), 80)
    assert np.allclose(sorted(turned(c[:,0])), [-160,0,45], atol=1) and np.allclose(c[:,1], 9, atol=1)
    assert not len(crossings(m*0, (150,150), 80)) and not len(crossings(m*0+1, (150,150), 80))
    assert turned([0,90,180,270,-170,361]).tolist()==[0,90,-180,-90,-170,1]

def test_the_wider_of_two_goes_on():
    "Where two vessels come near one crossing; a crossing that nobody is near begins a way"
    ways = followed([np.array([[10.,5],[14,9]]), np.array([[13.,9],[200,4]]), np.zeros((0,2))])
    assert [w[:,0].tolist() for w in ways]==[[10],[14,13],[200]]

def test_a_way_ends_at_a_gap_of_more_than_nine_degrees():
    ways = followed([np.array([[10.,5]]), np.array([[18.5,5]]), np.array([[28.5,5]])])
    assert [w[:,0].tolist() for w in ways]==[[10,18.5],[28.5]]

# --- angles of drawn eyes: the truth is the middle lines that the painter was given

def drawn_eye(monkeypatch, *a, **kw):
    kept,paint = {},phantoms.Vessels.vessels
    def spy(self, trees):
        kept.update(g=self.g, trees=trees, c=self.d.c)
        return paint(self, trees)
    with monkeypatch.context() as m:
        m.setattr(phantoms.Vessels, 'vessels', spy)
        o = phantom_fundus(*a, **kw)
    trunks = {k:[kept['g'].px(q) for q,w in t if np.hypot(*(q[0]-kept['c']))<.5] for k,t in kept['trees'].items()}
    flip = (lambda q: np.stack([o.image.shape[1]-1-q[:,0],q[:,1]], 1)) if o.eye=='L' else lambda q: q
    return o,{k:[flip(q) for q in t] for k,t in trunks.items()}

def middle(box): return np.array([box[0]+box[2]-1,box[1]+box[3]-1])/2

def true_angles(trunks, at, r, axis):
    "Where the trunks cross the circles, by their middle lines; NaN where there are not two above and two below"
    ways = []
    for q in trunks:
        d,a = np.hypot(*(q-at).T)[:30],np.rad2deg(np.unwrap(np.arctan2(*(q-at).T[::-1])))[:30]
        ways.append(float(turned(np.median(np.interp(CIRCLES*r, np.maximum.accumulate(d), a))-axis)))
    up,down = (sorted(abs(w) for w in ways if s*w>0) for s in (-1,1))
    if len(up)!=2 or len(down)!=2: return dict(temporal=np.nan, nasal=np.nan)
    return dict(temporal=up[0]+down[0], nasal=360-up[1]-down[1])

def test_angles_from_true_masks(monkeypatch):
    e = []
    for i in range(1, 11):
        o,trunks = drawn_eye(monkeypatch, [], 77, i, eye='RL'[i%2], size=400)
        at,r,f = middle(o.disc),(o.disc[2]-o.disc[0]+o.disc[3]-o.disc[1])/4,middle(o.fovea)
        axis = np.rad2deg(np.arctan2(*(f-at)[::-1]))
        for k in ('artery','vein'):
            t,m = true_angles(trunks[k], at, r, axis),trunk_angles(o.vessels[k], at, r, axis=axis)
            e += [m[s]-t[s] for s in m]
    e = np.array(e)
    assert np.nanmean(np.abs(e))<4 and np.nanmedian(np.abs(e))<1 and np.isnan(e).mean()<.25, e.round(1)

def test_no_angle_of_two_that_are_alike():
    "Two vessels above, as wide as each other: which is the trunk is not known; one of them narrower: the wider is"
    def temporal(wide):
        a = np.zeros((400,400), np.uint8)
        for deg,w in ((30,11),(60,wide),(-40,11)):
            end = (200+180*np.array([np.cos(np.deg2rad(deg)), np.sin(np.deg2rad(deg))])).round().astype(int)
            cv2.line(a, (200,200), tuple(map(int, end)), 1, w)
        return trunk_angles(a, (200,200), 60, axis=0)['temporal']
    assert np.isnan(temporal(11)) and abs(temporal(5)-70)<1 and abs(temporal(19)-100)<1

def test_what_few_circles_meet_is_no_trunk():
    "A bleeding beside the disc, wider than all vessels together"
    a = np.zeros((400,400), np.uint8)
    for deg in (30,-40):
        end = (200+180*np.array([np.cos(np.deg2rad(deg)), np.sin(np.deg2rad(deg))])).round().astype(int)
        cv2.line(a, (200,200), tuple(map(int, end)), 1, 11)
    spot = cv2.ellipse(a.copy(), (200,200), (105,105), 0, 50, 90, 1, 20)
    assert len(crossings(spot, (200,200), 105))==3
    assert trunk_angles(spot, (200,200), 60, axis=0)==pytest.approx(trunk_angles(a, (200,200), 60, axis=0), nan_ok=True)

def spokes(degrees, width, start=55, end=250):
    y,x = np.mgrid[:600,:600]-300.
    t = np.deg2rad(np.array(degrees))[:,None,None]
    along = x*np.cos(t)+y*np.sin(t)
    return ((np.abs(y*np.cos(t)-x*np.sin(t))<width/2)&(start<along)&(along<end)).any(0).astype(np.float32)

def test_all_measures_of_an_eye_of_spokes():
    "A disc 100 wide, four arteries 9 wide and four veins 13 wide, straight, the fovea to the left; what ends or begins within the zone is not counted"
    a = np.maximum(spokes([140,220,50,310], 9), spokes([5], 15, end=118)) # to 2.36 radii, or from 2.8
    v = np.maximum(spokes([115,245,65,295], 13), spokes([355], 15, start=140))
    o = Vessels(np.maximum(a, v), a, 1., (600,600), field=250_000.)
    f = vessel_features(o, Landmarks(300, 300, 100, 100, 0, 150, 300, 'R', shape=(600,600)))
    assert f['reason']=='' and f['vessels']==4
    assert f['density']==pytest.approx(np.maximum(a, v).sum()/250_000) and f['density_artery']==pytest.approx(a.sum()/250_000)
    assert f['crae']==pytest.approx(knudtson([9]*4, 'artery'), rel=.05) and f['crve']==pytest.approx(knudtson([13]*4, 'vein'), rel=.05) and f['avr']==f['crae']/f['crve']
    dim = vessel_features(Vessels(.6*np.maximum(a, v), a, 1., (600,600), field=250_000.), Landmarks())['dimension']
    assert dim==f['dimension']==fractal_dimension(np.maximum(a, v)>0)
    got = [f[f'angle_{s}_{k}'] for k in ('artery','vein') for s in ('temporal','nasal')]
    assert got==pytest.approx([80,360-260,130,360-230], abs=1.5)
    assert f['width_artery']==pytest.approx(np.average([9]*4+[15], weights=[195]*4+[63]), rel=.08)

# --- whatever people pass

def test_reasons():
    e = phantom_fundus([], 3, 5, eye='R', size=300)
    x = int(middle(e.disc)[0])
    odd = dict(black=e.image*0, gray=e.image.mean(2).astype(np.uint8), noise=np.random.default_rng(0).integers(0, 255, (90,120,3), 'uint8'))
    for k,im in odd.items():
        f = vessel_features(vessels(im), landmarks(im))
        assert f['reason'] and np.isnan([f[o] for o in FEATURES]).all(), k
    im = np.ascontiguousarray(e.image[:,:x])
    f = vessel_features(vessels(im), landmarks(im))
    assert f['reason'] and np.isnan(f['avr']) and np.isnan(f['angle_temporal_vein'])

@pytest.mark.parametrize('disc,word', ((20,'wider'), (240,'narrower')))
def test_fields_that_we_do_not_know(disc, word):
    o = Vessels(np.full((536,536), .1, np.float32), np.full((536,536), .5, np.float32), 1., (536,536), field=200_000.)
    f = vessel_features(o, Landmarks(300, 268, disc, disc, 0, 200, 268, 'R', shape=(536,536)))
    assert word in f['reason'] and np.isnan([f[o] for o in FEATURES]).all()
    f = vessel_features(o, Landmarks(300, 268, 70, 70, 0, 100, 268, 'R', shape=(536,536))) # a field without a vessel
    assert f['density']==0 and np.isnan(f['dimension']) and 'fewer than four' in f['reason']

def test_fields_that_we_know():
    "The disc is from 7 to 30 % of the field, whatever the photograph's size"
    def said(share, k): return measures.odd_field(SimpleNamespace(k=k), SimpleNamespace(disc_h=share*704/k))
    for k in (.25, 2):
        assert 'wider' in said(.069, k) and 'narrower' in said(.301, k) and said(.071, k)==said(.299, k)==''

@pytest.mark.parametrize('cut', (0,.12,.2))
def test_density_is_of_the_field_that_is_seen(cut):
    "Many cameras cut it above and below"
    im = phantom_fundus([], 3, 4, size=640).image
    n = round(cut*len(im))
    o = vessels(np.ascontiguousarray(im[n:len(im)-n]))
    f = vessel_features(o, Landmarks(0, 0, 70, 70, 0, 0, 0, 'R', shape=o.shape))
    share = (o.full('prob')>.5)[field_mask(im[n:len(im)-n])].mean()
    assert abs(f['density']/share-1)<.03

def test_command(tmp_path, capsys):
    save_fundus(phantom_fundus([], 3, 1, size=200), tmp_path/'1.jpg', tmp_path/'1.npz')
    (tmp_path/'bad.jpg').write_bytes(b'no image')
    cv2.imwrite(str(tmp_path/'dark.png'), np.zeros((60,80,3), np.uint8))
    out = tmp_path/'out'
    assert main(['vessels',str(tmp_path),'--out',str(out),'--mm-per-pixel','.07'])==1 # one file cannot be read
    t = pd.read_csv(out/'features.csv')
    assert list(t)==[*COLUMNS,'scale','model'] and len(t)==3 and t.model.nunique()==1 and t.reason.notna().sum()>=2 and {o.name for o in out.iterdir()}=={'1_av.png','1_vessels.png','features.csv'}
    assert set(np.unique(cv2.imread(str(out/'1_av.png'), -1)))=={0,1,2} and cv2.imread(str(out/'1_vessels.png'), -1).shape==(200,200)
    assert main(['vessels',str(tmp_path),'--out',str(out)])==1 and '--force' in capsys.readouterr().err

def test_each_patient_a_folder(tmp_path, capsys):
    "`OD.jpg` is there for each: the folder's name goes in front, and the atlas knows of which photograph a map is"
    for k in (1,2):
        (tmp_path/f'eyes/P{k}').mkdir(parents=True)
        save_fundus(phantom_fundus([], 3, k, size=200), tmp_path/f'eyes/P{k}/OD.jpg', tmp_path/f'{k}.npz')
    assert main(['vessels',tmp_path/'eyes','--out',tmp_path/'out'])==0
    t = pd.read_csv(tmp_path/'out/features.csv')
    names = {f'P{k}_OD_{o}.png' for k in (1,2) for o in ('vessels','av')}
    assert {o.name for o in (tmp_path/'out').iterdir()}=={'features.csv',*names}
    assert {k:o.name for k,o in Maps(tmp_path/'out').files.items()}=={p:f'P{k}_OD_vessels.png' for k,p in enumerate(t.path, 1)}
    for k in (1,2): assert main(['vessels',tmp_path/'eyes','--out',tmp_path/'eyes/out','--shard',f'{k}/2'])==0 # maps lie among the eyes
    parts = [pd.read_csv(tmp_path/f'eyes/out/{k}of2/features.csv') for k in (1,2)]
    assert [len(o) for o in parts]==[1,1] and pd.concat(parts).drop(columns='map').equals(t.drop(columns='map').set_axis([0,0]))
    assert {o.name for o in (tmp_path/'eyes/out/2of2').iterdir()}=={'features.csv','OD_vessels.png','OD_av.png'}
    whole = tmp_path/'eyes/out/features.csv'
    assert main(['gather',*(whole.parent/f'{k}of2/features.csv' for k in (2,1)),'--out',whole])==0
    assert pd.read_csv(whole).drop(columns='map').equals(t.drop(columns='map'))
    assert Maps(whole.parent).files=={p:whole.parent/f'{k}of2/OD_vessels.png' for k,p in enumerate(t.path, 1)}
    vessel_table(t.path[0], whole.parent, force=True) # its table is replaced, those of the parts are not
    assert {o.relative_to(whole.parent).as_posix() for o in whole.parent.rglob('*.png')}=={f'{d}OD_{k}.png' for d in ('1of2/','2of2/','') for k in ('vessels','av')}

def test_maps_keep_their_names_when_a_run_goes_on(tmp_path):
    "A second `OD.jpg` takes a name of its own, and the atlas finds both; so it does in a table from before `map`"
    for k in 'ab':
        (tmp_path/k).mkdir()
        save_fundus(phantom_fundus([], 3, 1+(k=='b'), size=200), tmp_path/k/'OD.jpg', tmp_path/f'{k}.npz')
    out,eyes = tmp_path/'out',[str(tmp_path/k/'OD.jpg') for k in 'ab']
    def begun(): (out/'features.csv').rename(out/'features.csv.part')
    def found(): return [o and Maps(out).files[o].name for o in same_files(eyes, Maps(out).files).values()]
    vessel_table([tmp_path/'a'], out)
    first = (out/'OD_vessels.png').read_bytes()
    begun()
    vessel_table(eyes, out, resume=True)
    assert pd.read_csv(out/'features.csv')['map'].tolist()==found()==['OD_vessels.png','b_OD_vessels.png']
    assert (out/'OD_vessels.png').read_bytes()==first and {o.stem for o in out.glob('*_av.png')}=={'OD_av','b_OD_av'}
    assert len(vessel_table(eyes, out, resume=True))==0 # a finished folder is gone on with, and nothing is left to do
    vessel_table(eyes, out, force=True)
    kinds = {f'{k}_OD_{o}.png' for k in 'ab' for o in ('vessels','av')}
    assert {o.name for o in out.iterdir()}=={'features.csv',*kinds} # those of the first table are gone
    pd.read_csv(out/'features.csv').drop(columns='map').to_csv(out/'features.csv', index=False)
    assert found()==['a_OD_vessels.png','b_OD_vessels.png']

def test_force_leaves_no_map_of_an_earlier_table(tmp_path, monkeypatch):
    "Neither of a finished table nor of one that was begun; where nothing can be read all stays"
    for k in 'abc': save_fundus(phantom_fundus([], 3, 1, size=64), tmp_path/f'{k}.jpg', tmp_path/f'{k}.npz')
    (tmp_path/'bad.jpg').write_bytes(b'no image')
    def found(im): return Vessels(np.ones(im.shape[:2], np.float32), np.ones(im.shape[:2], np.float32), shape=im.shape[:2])
    monkeypatch.setattr(measures, 'vessels', found)
    monkeypatch.setattr(measures, 'vessel_features', lambda *_: {})
    out = tmp_path/'study/out'
    def maps(): return ''.join(sorted(o.name.removesuffix('_av.png') for o in out.glob('*_av.png')))
    vessel_table([tmp_path/'a.jpg',tmp_path/'b.jpg'], out)
    (out/'mine_av.png').write_bytes(b'')
    with pytest.raises(DataError, match='nothing is left'): vessel_table([tmp_path/'bad.jpg'], out, force=True)
    assert maps()=='abmine'
    vessel_table([tmp_path/'b.jpg'], out, force=True)
    assert maps()=='bmine' and not (out/'a_vessels.png').exists()
    (out/'features.csv').rename(out/'features.csv.part')
    vessel_table([tmp_path/'c.jpg'], out, force=True)
    assert maps()=='cmine' and len(list(out.iterdir()))==4

def test_two_scales_are_not_joined(tmp_path, monkeypatch, capsys):
    "Nor is their column taken for a measure; what was not measured in an earlier call is counted at the end"
    monkeypatch.chdir(tmp_path)
    for k in 'ac': save_fundus(phantom_fundus([], 3, 1, size=64), f'{k}.jpg', f'{k}.npz')
    Path('b.jpg').write_bytes(b'no image')
    def stop(im):
        if Path('out/features.csv.part').read_text().count('.jpg,')==2: raise KeyboardInterrupt
        return Vessels(shape=im.shape[:2])
    def call(*args): return main(['vessels','a.jpg','b.jpg','c.jpg','--out','out',*args]),capsys.readouterr().err
    with monkeypatch.context() as m:
        m.setattr(measures, 'vessels', stop)
        assert call('--mm-per-pixel','.02')[0]==130
    for other,name in (((),'not given'), (('--mm-per-pixel','.04'),'0.04 mm per pixel')):
        status,said = call('--resume', *other)
        assert status==1 and f'another scale (0.02 mm per pixel, this call has {name}): go on as it was begun' in said
    status,said = call('--resume','--mm-per-pixel','0.02')
    assert status==0 and '3 images without all measures (column reason)\n3 rows' in said
    t = pd.read_csv('out/features.csv')
    assert t.scale.tolist()==['0.02 mm per pixel']*3 and 'another scale' in call('--resume')[1]
    got = with_table(pd.DataFrame(dict(path=t.path)), t.assign(density=.1), ready=True).attrs['more']
    assert 'density' in got and not {'scale','model'}&{*got}
    monkeypatch.setattr(measures, 'shipped_model', lambda *_: 'of 2030')
    status,said = call('--resume','--mm-per-pixel','0.02')
    assert status==1 and f'another model ({t.model[0]}, this call has of 2030)' in said

def test_no_map_is_written_over_another(tmp_path):
    "A new photograph's folder and name may spell an old one's name"
    done = dict.fromkeys(['/p/x_y.jpg'])
    pd.DataFrame(dict(path=[*done], map='x_y_vessels.png')).to_csv(tmp_path/'part', index=False)
    table = SimpleNamespace(done=done, stands=tmp_path/'part', columns=['path','map'])
    names = RowFile.names(table, ['/z/x_y.jpg','/x/y.jpg','/w/y.jpg'], 'map', '_vessels.png')
    assert names['/p/x_y.jpg']=='x_y' and len({*names.values()})==4

@pytest.mark.parametrize('args,says', [*((['--mm-per-pixel',o], 'millimeters a pixel, as 0.006') for o in ('0','-0.01','nan','1e9','6')),
                                       (['--out','1.jpg'], 'is a file: name a folder with --out')], ids=str)
def test_what_cannot_be_measured_by(tmp_path, monkeypatch, capsys, args, says):
    monkeypatch.chdir(tmp_path)
    save_fundus(phantom_fundus([], 3, 1, size=200), '1.jpg', '1.npz')
    assert main(['vessels','1.jpg','--out','out',*args])==1 and says in capsys.readouterr().err
    assert not (tmp_path/'out').exists()

def test_a_full_disk_is_named(tmp_path, monkeypatch):
    "It said that the file cannot be written, and not why"
    def full(*args): raise OSError(errno.ENOSPC, 'No space left on device')
    monkeypatch.setattr(Path, 'write_bytes', full)
    with pytest.raises(OSError, match='no room is left there') as e: measures._write(tmp_path/'a.png', np.zeros((9,9), np.uint8))
    assert e.value.filename==str(tmp_path/'a.png') and not [*tmp_path.iterdir()]
