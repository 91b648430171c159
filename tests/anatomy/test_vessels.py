"Vessels: maps on phantoms and on real photographs, and a reason for whatever is no color photograph of an eye's back"
import os, tracemalloc
from pathlib import Path
import cv2, numpy as np, pytest, torch
from sklearn.metrics import roc_auc_score
from fundus_fastai.anatomy.vessels import DARK, DIAMETER, LEAN, Scaled, VesselNet, Vessels, ask_vessels, by_lines, contrast, draw_vessels, vessels
from fundus_fastai.image.read import read_image
from fundus_fastai.phantom.fundus import phantom_fundus

cv2.setNumThreads(1)

@pytest.fixture(scope='module')
def eyes():
    e = [phantom_fundus([], 23, k, eye='RL'[k%2], size=s) for k,s in ((1,420),(2,560))]
    return e,[vessels(o.image) for o in e]

def test_maps_of_phantoms(eyes):
    for e,o in zip(*eyes):
        v = e.vessels['artery']|e.vessels['vein']
        assert roc_auc_score(v[e.field], o.full('prob')[e.field])>.95
        k = (e.vessels['artery']^e.vessels['vein'])&(o.kinds()>0)
        assert (e.vessels['artery']==(o.kinds()==1))[k].mean()>.65
        assert not o.full('prob')[~e.field].max()>.5 and o.kinds().shape==e.image.shape[:2]==draw_vessels(o).shape[:2]

def test_one_scale():
    "A field of any size is brought to one, light and a tint change little"
    e = phantom_fundus([], 23, 1, size=300)
    w = Scaled(e.image)
    assert abs(w.mask.any(0).sum()-DIAMETER)<12 and w.image.shape[:2]==w.mask.shape and (w.near>=w.mask).all()
    a,b = (contrast(o, w.mask)[w.mask] for o in (w.image, (w.image*np.array([.8,.6,.7])).astype(np.uint8)))
    assert np.corrcoef(a[:,1], b[:,1])[0,1]>.95
    gray = np.repeat(w.image[...,1:2], 3, 2)
    faint = np.dstack([128+.2*(gray[...,0]-128.),*gray.transpose(2, 0, 1)[1:]]) # a channel with a fifth of the contrast
    s = contrast(faint, w.mask)[w.mask].std(0)
    assert len(s)==6 and s[0]/s[1]>.5 and s[3]/s[4]<.3 # it stays faint by one spread

def test_the_rim_is_answered(eyes):
    "Vessels are told apart up to the field's edge, where a fiftieth of its radius is left"
    for e,o in zip(*eyes):
        inner = cv2.erode(np.pad(e.field, 1).astype(np.uint8), np.ones((3,3)), iterations=round(len(e.field)*.01))[1:-1,1:-1]>0
        rim,v = e.field&~inner,e.vessels['artery']|e.vessels['vein']
        assert rim.mean()>.02 and roc_auc_score(v[rim], o.full('prob')[rim])>.85

def test_a_line_is_of_one_kind():
    "A stretch that differs is outvoted by its line; another line keeps its kind, what is far from all lines its answer"
    p,a = np.zeros((80,120)),np.full((80,120), -1.)
    p[19:22,5:115] = p[59:62,5:115] = 1
    a[:40],a[:40,50:65],a[29:52] = 2.,-3.,.5
    b = by_lines(a, p)
    assert (a[20,52:63]<0).all() and (b[20,8:112]>0).all() and (b[60,8:112]<0).all() and abs(b[40,60]-.5)<.1
    assert np.allclose(by_lines(a*0+1, p*0), 1)

def test_a_mirror_mirrors(eyes):
    e,o = eyes[0][0],eyes[1][0]
    m = vessels(np.ascontiguousarray(e.image[:,::-1]))
    assert np.corrcoef(m.full('prob')[:,::-1].ravel(), o.full('prob').ravel())[0,1]>.97

class Echo(torch.nn.Conv2d):
    "Says where it is asked: row and column, added, thrice"
    def __init__(self): super().__init__(6, 3, 1)
    def forward(self, x): return x[:,:1].repeat(1, 3, 1, 1)*(torch.arange(x.shape[3])+torch.arange(x.shape[2])[:,None])

def test_all_mirrors_and_a_lean():
    "The answers for a picture and its mirror images are averaged, and lean toward vessels, more so where it is dark; kinds do not lean"
    x = np.ones((32,48,6), np.float32)
    x[:8,:,4] = -2
    v,a = ask_vessels(Echo(), x)
    assert v.shape==(32,48) and np.allclose(a, 39) and LEAN>0 and DARK>0
    assert np.allclose(v[8:], 39+LEAN-DARK) and np.allclose(v[:8], 39+LEAN+2*DARK)

def test_real_photographs():
    root = Path(os.environ.get('FUNDUS_TEST_DATA', ''), 'drive')
    if not root.is_dir(): pytest.skip("FUNDUS_TEST_DATA names no folder with drive")
    v,f = (cv2.imread(str(root/k/'25.png'), 0)>0 for k in ('vessels','fov'))
    assert roc_auc_score(v[f], vessels(read_image(root/'images/25.png')).full('prob')[f])>LEAST

LEAST = .96 # the image is one of those that taught the net; without the rim it would be .953

def test_teaching_in_small(tmp_path, monkeypatch):
    "The program that taught the net draws, moves, teaches several in turn, and keeps what the library loads"
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]/'benchmarks'))
    import teach_vessels as t
    x,y = t.drawn(tmp_path/'p.npz', 1)
    assert (t.drawn(tmp_path/'p.npz', 1)[1]==y).all() and set(np.unique(y))>={0,1,2,t.OUTSIDE} and x.shape==(1,6,t.CANVAS,t.CANVAS)
    e,spot = phantom_fundus([], 23, 1, size=540),np.zeros((540,540), np.uint8)
    cv2.circle(spot, (215,300), 83, 2, -1)
    lab,k = t.laid(e.image, spot)[1],Scaled(e.image, t.TAUGHT).image.shape[0]/540
    for i,c in zip(np.nonzero(lab==2), (300,215)): assert k>1.1 and abs(i.mean()-(k*(c+.5)-.5))<.15 # labels lie where the picture does
    black = np.where(e.field, spot, t.OUTSIDE).astype(np.uint8)
    assert (t.laid(e.image, black)[1][:660,:660]==0).sum()>(lab==0).sum()-9 and (lab==t.OUTSIDE).any() # beside the field there is none
    x,y = torch.from_numpy(x),torch.from_numpy(y)
    p,q = t.moved(torch.cat([x,(y==1)[:,None].expand_as(x)]), torch.cat([y,y]), 128)
    assert p.shape==(2,6,128,128) and q.shape==(2,128,128) and torch.isfinite(t.jitter(p)).all()
    inside = (p[1,0]>.99)|(p[1,0]<.01)
    assert ((p[1,0]>.5)==(q[1]==1))[inside&(q[1]!=t.OUTSIDE)].all() # labels move as pictures do
    some = [t.Pupil(k, (x,y), (x,y), keep=torch.tensor([0]), share=s) for k,s in (('fold1',.5),('scratch1',0.))]
    t.teach(some, .1, tmp_path, size=2, side=64)
    VesselNet().load_state_dict(t.weights(tmp_path/'scratch1.safetensors'))
    assert all(o.n for o in some) and not (some[0].net.out.weight==some[1].net.out.weight).all()
    truth = np.zeros((4,4), np.uint8)
    truth[0],truth[1] = 1,2
    o = Vessels((truth>0)*.9, (truth==1)*.8, 1., (4,4))
    assert t.judged(o, truth)==(1,1,1,1) and t.left_out('fold1')==[1,5,9,13,17] and t.left_out('all')==[]

@pytest.mark.parametrize('photo', [True, False])
def test_a_large_photograph_is_drawn_in_little_memory(photo):
    "A photograph of 27 megapixels had taken 2.5 GB to draw on"
    rng,(h,w) = np.random.default_rng(0),(1500,2000)
    o = Vessels(rng.random((150,200)).astype(np.float32)**6, rng.random((150,200)).astype(np.float32), .1, (h,w))
    im = rng.integers(0, 255, (h,w,3), np.uint8) if photo else None
    tracemalloc.start()
    got = draw_vessels(o, im)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    p,a,base = o.full('prob'),o.full('artery'),np.zeros((h,w,3)) if im is None else im
    k = np.where(p>.5, np.where(a>.5, 1, 2), 0)
    color = np.array([[0,0,0],[235,60,50],[60,100,235]])[k]
    assert (got==np.where(k[...,None]>0, (1-p[...,None])*base+p[...,None]*color, base).astype(np.uint8)).all()
    assert o.kinds().dtype==np.uint8 and (o.kinds()==k).all() and peak<30*h*w
