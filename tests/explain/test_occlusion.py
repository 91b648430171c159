"Occlusion against the double loop, and what it does to nets that misbehave"
import cv2, numpy as np, pandas as pd, pytest, torch, warnings
from types import SimpleNamespace
from hypothesis import given, settings, strategies as st
from PIL import Image
from torch import nn
from fastai.vision.all import CategoryBlock, ColReader, DataBlock, ImageBlock, MultiCategoryBlock, Resize, squeezenet1_1, vision_learner
from fundus_fastai.core import DataError, EyeError, EyeWarning, ModelError
from fundus_fastai.explain import occlusion as occ
from fundus_fastai.explain.heatmap import evidence_inside
from fundus_fastai.explain import attribution, windows # attribution gives learners `evidence`
from fundus_fastai.explain.occlusion import OcclusionMap, load_map, occlusion, save_maps
from fundus_fastai.phantom.fundus import phantom_fundus
from fundus_fastai.data.catalog import read_dataset
from fundus_fastai.data.splits import split_patients
from fundus_fastai.phantom.oct import write_kermany
from fundus_fastai.vision.data import eye_dls
from fundus_fastai.vision.learner import eye_learner
from fundus_fastai.vision.outputs import BothOutput, LabelsOutput, NumberOutput

newest = pytest.mark.newest # what goes through a Learner


def conv_net(c, k, seed=0):
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Conv2d(c,6,3,2,1), nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.MaxPool2d(2,ceil_mode=True),
                        nn.Conv2d(6,8,3,1,1), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8,k))
    net[1].running_mean.normal_(); net[1].running_var.uniform_(.5,2)
    return net.eval()

def starts(size, window, stride):
    out = list(range(0, size-window+1, stride))
    return out if out[-1]+window==size else out+[size-window]

def fill_value(x, fill):
    if fill=='mean': return x.mean((1,2), keepdim=True)
    if fill=='zero': return 0.
    return torch.tensor(fill).view(-1,1,1) if isinstance(fill, list) else fill

def naive(net, x, window, stride, fill):
    "One image, one window, one forward at a time; pixel means by adding up at input size"
    (h,w),(H,W) = window,x.shape[2:]
    R,C = starts(H,h,stride[0]),starts(W,w,stride[1])
    with torch.no_grad(): base = torch.stack([net(o[None])[0] for o in x])
    values = torch.zeros(*base.shape, len(R), len(C))
    total,count = torch.zeros(*base.shape, H, W),torch.zeros(H, W)
    for i,r in enumerate(R):
        for j,c in enumerate(C):
            count[r:r+h,c:c+w] += 1
            for n,o in enumerate(x):
                z = o.clone(); z[:,r:r+h,c:c+w] = fill_value(o, fill)
                with torch.no_grad(): values[n,:,i,j] = base[n]-net(z[None])[0]
                total[n,:,r:r+h,c:c+w] += values[n,:,i,j,None,None]
    return values,total/count.clip(1),base


class InPlace(nn.Module):
    "A net that works in place on what it gets, as it normalizes or as it begins"
    def __init__(self, how, net): super().__init__(); self.how,self.net = how,net
    def forward(self, x): return self.net(x.sub_(.45).div_(.22) if self.how=='normalizes' else x.relu_())

@pytest.mark.parametrize('how', ['normalizes', 'begins'])
def test_a_net_that_writes_on_its_input(how):
    "Each picture's map is right, no fallback is needed, and the pictures stay as they were"
    net,x = InPlace(how, conv_net(3, 2)).eval(),torch.randn(2, 3, 32, 32)
    mine = x.clone()
    with warnings.catch_warnings():
        warnings.simplefilter('error', EyeWarning)
        o = occlusion(net, mine, 8, stride=8, progress=False)
    values,_,base = naive(lambda z: net(z.clone()), x, (8,8), (8,8), 'mean')
    assert torch.equal(mine, x) and torch.allclose(torch.as_tensor(o.baseline), base, atol=1e-5)
    assert torch.allclose(o.values, values, atol=1e-5)

@st.composite
def cases(draw):
    "Images, window and stride of any fit, and a fill"
    c,k,n = draw(st.sampled_from([1,2,3])),draw(st.integers(1,4)),draw(st.integers(1,3))
    size = draw(st.tuples(st.integers(5,19), st.integers(5,19)))
    window = tuple(draw(st.integers(1,s)) for s in size)
    stride = tuple(draw(st.integers(max(1,s//5),s+2)) for s in size)
    fill = draw(st.sampled_from(['mean','zero',.7,-2,[.1,-.5,1.][:c]]))
    return c,k,n,size,window,stride,fill,draw(st.integers(1,40)),draw(st.integers(0,99))

@settings(max_examples=40, deadline=None, derandomize=True)
@given(cases())
def test_equals_the_double_loop(case):
    c,k,n,size,window,stride,fill,bs,seed = case
    net = conv_net(c, k, seed); x = torch.randn(n, c, *size)
    values,pixels,base = naive(net, x, window, stride, fill)
    om = occlusion(net, x, window, stride=stride, fill=fill, bs=bs)
    eps = 1e-5*base.abs().max().item()
    assert om.values.shape==values.shape and om.map.shape==(n,k,*size)
    for a,b in ((om.values,values), (om.map,pixels), (om.baseline,base)): torch.testing.assert_close(a, b, rtol=0, atol=eps)

@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(1,40), st.integers(1,40), st.integers(1,45))
def test_windows_begin_at_zero_and_end_at_the_border(size, window, stride):
    if window>size: return
    s = occ.window_starts(size, window, stride)
    assert s.tolist()==starts(size, window, stride)

def test_blur_keeps_brightness_and_takes_detail():
    x = torch.rand(2,3,32,32); y = occ.filled(x, 'blur', (8,8))
    assert y.var()<.05*x.var() and abs(y.mean()-x.mean())<.02
    om = occlusion(conv_net(3,2), x, 8, stride=8, fill='blur')
    z = x.clone(); z[:,:,8:16,16:24] = y[:,:,8:16,16:24]
    with torch.no_grad(): want = conv_net(3,2)(x)-conv_net(3,2)(z)
    torch.testing.assert_close(om.values[:,:,1,2], want, rtol=0, atol=1e-5)

@pytest.mark.parametrize('name', ['window_starts','cover'])
def test_a_wrong_index_formula_is_noticed(monkeypatch, name):
    net,x = conv_net(1,2),torch.randn(1,1,11,13)
    right,calls = getattr(windows, name),dict(window_starts=lambda s,w,t: np.arange(0, s-w+1, t),
                                          cover=lambda s,w,t: np.roll(right(s,w,t), 1, axis=0))
    for m in (windows,occ): monkeypatch.setattr(m, name, calls[name], raising=m is windows)
    om = occlusion(net, x, 4, stride=3, fill=0)
    pixels = naive(net, x, (4,4), (3,3), 0)[1]
    assert (om.map-pixels).abs().max()>1e-4


class Keyhole(nn.Module):
    "Two classes; all it sees are rows 10-14 and columns 20-26, for the one and against the other"
    def forward(self, x):
        s = x[:,:,10:15,20:27].sum((1,2,3))
        return torch.stack([s,-s], 1)

def test_all_evidence_is_where_the_net_looks():
    om = occlusion(Keyhole(), torch.ones(3,32,48), window=1, stride=1, fill='zero')
    hole = np.zeros((32,48), bool); hole[10:15,20:27] = True
    assert evidence_inside(om.map[0,0], hole)['share']==1
    torch.testing.assert_close(om.map[0,0], torch.from_numpy(hole)*3.)
    assert (om.map[0,1]<=0).all() and torch.equal(om.map[0,1], -om.map[0,0])

def test_uncovered_pixels_are_zero():
    m = occlusion(Keyhole(), torch.ones(1,32,48), window=2, stride=5, fill=0).map[0,0]
    assert m[10,20]==4 and m[12,22]==0 and m[10,23]==0 and not m.isnan().any()

def test_a_window_that_changes_nothing_costs_nothing():
    seen = []
    class Count(Keyhole):
        def forward(self, x): seen.append(len(x)); return super().forward(x)*(1+1e-6*len(seen))
    x = torch.zeros(1,32,48); x[0,10,20] = 1
    om = occlusion(Count(), x, window=4, stride=4, fill='zero')
    assert seen==[1,2,1] and ( # a look at the net; the window and the image itself; the window once more, as a check
            om.values[0,0]!=0).sum()==1
    assert occlusion(Count(), torch.zeros(2,1,32,48), 4, stride=4, fill='zero').map.abs().max()==0

def test_probabilities():
    net,x = conv_net(1,3),torch.randn(2,1,16,16)
    p = occlusion(nn.Sequential(net, nn.Softmax(1)), x, 5, stride=4)
    om = occlusion(net, x, 5, stride=4, output='prob')
    torch.testing.assert_close(om.values, p.values); assert om.output=='prob'
    torch.testing.assert_close(om.values.sum(1), torch.zeros_like(om.values.sum(1)), rtol=0, atol=1e-6)
    one = conv_net(1,1)
    torch.testing.assert_close(occlusion(one, x, 5, stride=4, output='prob').baseline, one(x).sigmoid().detach())

def test_target_picks_classes():
    net,x = conv_net(1,4),torch.randn(2,1,12,12)
    om = occlusion(net, x, 5, stride=4)
    for t,i in ((2,[2]), ([3,0],[3,0]), ('1',[1]), (np.int64(2),[2]), (torch.tensor([1,2]),[1,2])):
        o = occlusion(net, x, 5, stride=4, target=t)
        assert torch.equal(o.values, om.values[:,i]) and o.classes==[str(k) for k in i] and o.baseline.shape==(2,len(i))

@pytest.mark.parametrize('target', [[0,1,0], [False,True,False], torch.tensor([0,1,0]), np.eye(3)[1], torch.eye(3)[1].bool(), True, 1., [[0,1,0]], ['1',1]])
def test_one_hot_is_not_taken_for_classes(target):
    with pytest.raises(DataError, match='one-hot|is not one of 0 to 2'): occlusion(conv_net(1,3), torch.randn(1,1,12,12), 5, stride=4, target=target)

def test_pixels_under_no_window_are_told():
    with pytest.warns(EyeWarning, match='61% of the pixels lie under no window'): occlusion(conv_net(1,2), torch.randn(1,1,16,16), 2, stride=4, fill=0)
    with warnings.catch_warnings():
        warnings.filterwarnings('error', message='.*under no window')
        occlusion(conv_net(1,2), torch.randn(1,1,16,16), 4, stride=4, fill=0, progress=False)

def test_one_score_an_image_in_either_shape():
    class Flat(nn.Module):
        def forward(self, x): return x.sum((1,2,3))
    om = occlusion(Flat(), torch.ones(2,1,4,4), 2, stride=2, fill=0)
    assert om.values.shape==(2,1,2,2) and (om.values==4).all()


def test_training_state_and_statistics_survive():
    net = conv_net(1,2).train(); net[5].eval()
    modes = [m.training for m in net.modules()]; before = {k:v.clone() for k,v in net.state_dict().items()}
    x = torch.randn(2,1,12,12); copy = x.clone()
    a = occlusion(net, x, 4, stride=4)
    assert [m.training for m in net.modules()]==modes
    assert all(torch.equal(v, before[k]) for k,v in net.state_dict().items()) and torch.equal(x, copy)
    torch.testing.assert_close(a.values, occlusion(net.eval(), x, 4, stride=4).values)

def test_training_state_survives_an_error():
    net = nn.Sequential(conv_net(1,2), nn.Dropout()).train()
    with pytest.raises(RuntimeError): occlusion(net, torch.randn(1,3,12,12), 4, stride=4)
    assert all(m.training for m in net.modules())

def test_flags_are_put_back():
    conv,mm = torch.backends.cudnn.conv,torch.backends.cuda.matmul
    was,seen = (conv.fp32_precision, mm.fp32_precision),[]
    class Look(Keyhole):
        def forward(self, x): seen.append((conv.fp32_precision, mm.fp32_precision, torch.is_grad_enabled())); return super().forward(x)
    occlusion(Look(), torch.ones(1,32,48), 16, stride=16, fill=0)
    assert set(seen)=={('ieee','ieee',False)} and (conv.fp32_precision, mm.fp32_precision)==was and torch.is_grad_enabled()

def test_autocast_and_inference_mode_around_it():
    net,x = conv_net(1,2),torch.randn(1,1,16,16)
    want = occlusion(net, x, 5, stride=5)
    with torch.autocast('cpu', dtype=torch.bfloat16): assert torch.equal(occlusion(net, x, 5, stride=5).values, want.values)
    with torch.inference_mode(): om = occlusion(net, x, 5, stride=5); assert torch.equal(om.map, want.map)
    assert not want.values.is_inference() and want.values.dtype==torch.float32

class Greedy(nn.Module):
    "Runs out of memory beyond `n` images"
    def __init__(self, n, err=None): super().__init__(); self.n,self.err,self.asked = n,err or torch.OutOfMemoryError('CUDA out of memory'),[]
    def forward(self, x):
        self.asked.append(len(x))
        if len(x)>self.n: raise self.err
        return x[:,0,:2,0]+x.mean((1,2,3))[:,None]

@pytest.mark.parametrize('err', [torch.OutOfMemoryError('CUDA out of memory'), torch.cuda.OutOfMemoryError('x'),
                                 RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_out_of_memory_halves_the_batch(err):
    x = torch.randn(2,1,12,12)
    net = Greedy(3, err); om = occlusion(net, x, 3, stride=3, bs=32)
    torch.testing.assert_close(om.values, occlusion(Greedy(99), x, 3, stride=3, bs=32).values)
    assert [n for n in net.asked if n>3]==[10,5] # both images at once, then one
    assert len(net.asked)==1+2+3*4+6+1 # a look, failures, pairs of windows, those with the images themselves, a check
    with pytest.raises(ModelError, match='single image'): occlusion(Greedy(0, err), x, 3, stride=3)

def test_other_runtime_errors_pass():
    with pytest.raises(RuntimeError, match='shapes'): occlusion(Greedy(0, RuntimeError('shapes')), torch.randn(1,1,12,12), 3, stride=3)


class Answers(nn.Module):
    def __init__(self, f): super().__init__(); self.f = f
    def forward(self, x): return self.f(x)

@pytest.mark.parametrize('f,msg', [(lambda x: (x.mean((2,3)),), 'tuple'), (lambda x: {'y':x}, 'dict'),
                                   (lambda x: x.mean((2,3))*float('nan'), 'NaN'), (lambda x: x, r'shape \(4, 1, 8, 8\)'),
                                   (lambda x: x.mean(), r'shape \(\)'), (lambda x: x.mean((0,2,3))[None], r'shape \(1, 1\)')])
def test_answers_that_are_no_scores(f, msg):
    with pytest.raises(ModelError, match=msg): occlusion(Answers(f), torch.randn(4,1,8,8), 4, stride=4, bs=4)

def test_nan_under_one_window_only():
    with pytest.raises(ModelError, match='NaN'): occlusion(Answers(lambda x: x.amin((2,3)).sqrt()), torch.ones(1,1,8,8), 4, stride=4, fill=-1)

@pytest.mark.parametrize('kw,msg', [(dict(window=9), 'window of 9x9 px does not fit an image of 8x10 px: .* at most 8'),
                                    (dict(window=(8,11)), '8x11'), (dict(window=0), 'at least 1'), (dict(stride=0), 'at least 1'),
                                    (dict(window=2.5), 'whole number'), (dict(bs=0), '`bs` is to be at least 1, not 0'), (dict(fill='men'), 'did you mean mean'),
                                    (dict(fill=[1,2]), '3 channels'), (dict(output='logits'), 'did you mean logit'),
                                    (dict(target=2), '0 to 1'), (dict(target=-1), '0 to 1'), (dict(target='x'), 'unknown class')])
def test_arguments_that_cannot_be(kw, msg):
    with pytest.raises(EyeError, match=msg): occlusion(conv_net(3,2), torch.randn(1,3,8,10), **{'window':4, 'stride':4, **kw})

@pytest.mark.parametrize('x', [torch.ones(4,4), torch.ones(0,1,8,8), torch.full((1,8,8), float('nan'))])
def test_images_that_cannot_be(x):
    with pytest.raises(DataError): occlusion(conv_net(1,2), x, 4, stride=4)

def test_model_that_is_none():
    with pytest.raises(ModelError, match='function'): occlusion(lambda x: x, torch.ones(1,1,8,8), 4, stride=4)


def test_maps_on_disk(tmp_path):
    om = occlusion(conv_net(1,3), torch.randn(2,1,12,14), 5, stride=(3,4), fill=.25)
    paths = save_maps(om, ['a','b'], tmp_path/'new', method='occ')
    assert sorted(p.name for p in (tmp_path/'new').iterdir())==['a_occ.npz','b_occ.npz']
    d = load_map(paths[1])
    assert np.array_equal(d['map'], om.map[1]) and np.array_equal(d['baseline'], om.baseline[1])
    assert (d['classes'], d['window'], d['stride'], d['fill'], d['output'])==(['0','1','2'], (5,5), (3,4), '0.25', 'logit')
    paths[0].write_bytes(paths[0].read_bytes()[:200])
    with pytest.raises(DataError, match='a_occ.npz'): load_map(paths[0])

def test_a_map_of_one_image_and_its_face():
    om = OcclusionMap(torch.zeros(1,2,3,3), torch.zeros(1,2), (8,8), (4,4), (2,2), 'mean', ['a','b'])
    assert 'tensor' not in repr(om) and '3x3 windows of 4x4' in repr(om) and om.map.shape==(1,2,8,8)


# --- where the eye is

@pytest.fixture(scope='module')
def photos(tmp_path_factory):
    "A table of phantom photographs, and the true field of each"
    d = tmp_path_factory.mktemp('photos')
    eyes = [phantom_fundus(seed=3, patient=i, size=160) for i in range(18)]
    files = [str(d/f'{i}.png') for i in range(len(eyes))]
    for o,f in zip(eyes, files): Image.fromarray(o.image).save(f)
    df = pd.DataFrame(dict(path=files, label=['a','b']*9, split=['train']*12+['valid']*6, patient=range(18)))
    return df,[o.field for o in eyes]

def small_net(df, recipe=None):
    return eye_learner(eye_dls(df, image='fundus', recipe=recipe, size=64, bs=4, workers=0), 'test_resnet', weights='none')

@pytest.mark.parametrize('recipe', [None,'color','green','clahe','local_average','graham'])
def test_field_of_a_photograph_is_covered_and_nothing_else(photos, recipe):
    few = [*range(6),*range(12,15)]
    df,truth = photos[0].iloc[few],[photos[1][i] for i in few]
    learn = small_net(df, recipe)
    om = learn.occlude(df, 16, 8, inside='field')
    opener = learn.dls.opener
    for i,(path,t) in enumerate(zip(df.path, truth)):
        t = cv2.resize(opener.place(t, opener.eye(path).image).astype(np.float32), (64,64), interpolation=cv2.INTER_AREA)>.5
        m = om.inside[i].numpy()
        assert (m&t).sum()/(m|t).sum()>.93, (recipe, i)
        assert not om.map[i][:,~om.inside[i]].any() and om.map[i][:,om.inside[i]].any()

def test_windows_go_with_the_size_of_the_net(photos):
    "A window of 32 pixels was half of this net's picture"
    learn,df = small_net(photos[0]),photos[0][:2]
    for given,want in ({}, (9,4)),(dict(window=16), (16,8)),(dict(window=(16,6)), ((16,6),(8,3))),(dict(stride=16), (9,16)):
        om = learn.occlude(df, progress=False, **given)
        assert torch.equal(om.map, learn.occlude(df, *want, progress=False).map), given

def test_a_place_of_its_own_for_each_image(photos):
    "More images than a batch holds"
    df = photos[0]
    learn = small_net(df, 'color')
    maps = [o.map for o in (learn.occlude(df, 16, 8, inside='field'), learn.evidence(df, 'occlusion', window=16, stride=8, inside='field'))]
    assert torch.equal(*maps)
    own = torch.zeros(18, 64, 64, dtype=bool)
    for i in range(18): own[i,16:40,2*i:2*i+24] = True
    om = learn.occlude(df, 16, 8, inside=own)
    x = torch.cat([b[0] for b in learn.dls.test_dl(df)])
    assert torch.equal(om.inside, own) and om.map.any() and not torch.equal(om.values, learn.occlude(df, 16, 8).values)
    torch.testing.assert_close(om.values, occlusion(learn, x, 16, stride=8, inside=own).values, atol=1e-5, rtol=0)
    with pytest.raises(DataError, match='17 images, and there are 18'): learn.occlude(df, 16, 8, inside=own[:17])
    maps = [learn.occlude(df, 16, 8, only=own), learn.evidence(df, 'occlusion', window=16, stride=8, only=own)]
    assert torch.equal(*(o.values for o in maps)) and not torch.equal(maps[0].values, learn.occlude(df, 16, 8).values)

def test_a_net_of_half_precision_is_told(photos):
    learn = small_net(photos[0])
    learn.model.half()
    for f in (lambda: learn.occlude(photos[0], 16, 8), lambda: learn.evidence(photos[0], 'grad_cam')):
        with pytest.raises(ModelError, match='float16, .* explain it after model.float'): f()

@newest
def test_items_of_any_kind(photos):
    "A net made by fastai's own means knows no field: its items may be anything"
    df = photos[0].rename(columns=dict(path='fname'))
    block = DataBlock((ImageBlock,CategoryBlock), get_x=ColReader('fname'), get_y=ColReader('label'), item_tfms=Resize(32))
    learn = vision_learner(block.dataloaders(df, bs=4, num_workers=0), 'test_resnet', pretrained=False)
    assert len(learn.occlude(df, 8, 8))==len(learn.evidence(df, 'grad_cam'))==18

@newest
def test_a_blur_stays_in_the_field(photos):
    learn = eye_learner(eye_dls(photos[0], image='fundus', size=64, bs=4, workers=0), 'test_resnet', weights='none')
    e = learn.evidence(photos[0], 'occlusion', window=16, stride=8, inside='field', smooth=3)
    out = ~learn.occlude(photos[0], 16, 8, inside='field').inside
    assert out.any() and not e.map.permute(1,0,2,3)[:,out].any()

@newest
def test_a_scan_has_no_field(tmp_path):
    "A dark vitreous that reaches a corner is no surround"
    write_kermany(tmp_path/"oct", patients=8, seed=1)
    df = split_patients(read_dataset('kermany2018', tmp_path/'oct'))
    learn = eye_learner(eye_dls(df, size=32, bs=4, workers=0), 'test_resnet', weights='none')
    assert learn.occlude(df[:2], 8, 8, inside='field').inside is None

def test_of_each_image_the_map_of_one_class():
    v = torch.arange(12.).view(2,3,1,2)
    om = OcclusionMap(v, torch.zeros(2,3), (4,8), (4,4), (4,4), 'mean', ['a','b','c'])
    assert torch.equal(om.of(['c','a']), torch.stack([om.map[0,2], om.map[1,0]])) and torch.equal(om.of('b'), om.map[:,1])
    with pytest.raises(EyeError, match='class'): om.of('d')
    with pytest.raises(DataError, match='1 classes for 2 images'): om.of(['c']) # the second image had no map, and nothing was said

@pytest.mark.parametrize('slow', ['windows','whole'])
def test_a_card_goes_the_way_that_takes_less_time(monkeypatch, slow):
    "Both ways are tried twice, the rest goes by the faster; the values are those of either"
    net,x = conv_net(3, 4),torch.randn(2, 3, 40, 40)
    want = occlusion(net, x, 8, stride=4, bs=8, progress=False).values
    monkeypatch.setattr(occ, 'timed_on', lambda device: True)
    went,now = [],[0.]
    monkeypatch.setattr(occ, 'time', SimpleNamespace(perf_counter=lambda: now[0]))
    for way in ('windows','whole'):
        def told(self, boxes, way=way, f=getattr(occ._Ask, way)):
            went.append(way)
            now[0] += (2. if way==slow else 1.)*len(boxes)
            return f(self, boxes)
        monkeypatch.setattr(occ._Ask, way, told)
    got = occlusion(net, x, 8, stride=4, bs=8, progress=False).values
    other = {'windows':'whole', 'whole':'windows'}[slow]
    assert went[:4]==['windows','windows','whole','whole'] and len(went)>8
    assert went[4:-1]==[other]*(len(went)-5) and went[-1]=='whole' # one window of whole pictures, for the check
    assert torch.allclose(got, want, atol=1e-5)

@pytest.mark.parametrize('images,way', [(1,'whole'),(2,'windows')])
def test_few_windows_are_asked_as_whole_pictures(monkeypatch, images, way):
    "Nine windows a picture, and the picture; the values are those of windows"
    net,x,went = conv_net(3, 4),torch.randn(images, 3, 40, 40),[]
    want = occlusion(net, x, 16, stride=12, progress=False).values
    monkeypatch.setattr(occ, 'few_jobs', 16)
    for k in ('windows','whole'):
        def told(self, boxes, k=k, f=getattr(occ._Ask, k)):
            went.append((k,len(boxes)))
            return f(self, boxes)
        monkeypatch.setattr(occ._Ask, k, told)
    got = occlusion(net, x, 16, stride=12, progress=False).values
    assert {k for k,n in went if n>1}=={way} and sum(n for k,n in went if k==way)==10*images
    assert torch.allclose(got, want, atol=1e-5)

def test_only_a_card_is_timed(): assert not occ.timed_on('cpu') and occ.timed_on('cuda') and occ.timed_on('mps')

@newest
@pytest.mark.parametrize('output', ['prob','logit'])
@pytest.mark.parametrize('answer', [LabelsOutput(['dme','dr']), NumberOutput(['age'], 60, 10), BothOutput(['f','m'], 60, 10)], ids=lambda o: o.kind.name)
def test_a_learner_says_what_its_scores_mean(answer, output):
    "Labels have a sigmoid each, a number its unit: of tensors as of files"
    rng = np.random.default_rng(0)
    df = pd.DataFrame(dict(path=list(rng.integers(0, 255, (6,32,32,3), dtype=np.uint8)), patient=range(6), split=['train','train','valid']*2,
        label=[60,50,70]*2 if answer.kind.numeric else list('fmf')*2, age=60., dme=[0,1]*3, dr=[1,0]*3))
    learn = eye_learner(eye_dls(df, 2, image='fundus', size=32, workers=0, output=answer), 'squeezenet1_1', None)
    x = learn.dls.test_dl(df[:2], num_workers=0).one_batch()[0]
    o = dict(window=16, stride=16, output=output, progress=False)
    a,b,c = occlusion(learn, x, **o),learn.occlude(df[:2], **o),attribution.evidence(learn, x, **o)
    for m in (b,c): assert torch.allclose(a.values, m.values, atol=1e-4) and torch.allclose(a.baseline, m.baseline, atol=1e-4) and a.output==m.output
    with torch.no_grad(): y = learn.model.eval()(x)
    if output=='prob': assert torch.allclose(a.baseline, learn.loss_func.activation(y), atol=1e-4)

@newest
def test_a_plain_learner_of_labels_has_a_sigmoid_each():
    rng = np.random.default_rng(0)
    df = pd.DataFrame(dict(path=list(rng.integers(0, 255, (4,32,32,3), dtype=np.uint8)), a=[0,1]*2, b=[1,0]*2))
    block = DataBlock((ImageBlock,MultiCategoryBlock(encoded=True, vocab=['a','b'])), get_x=ColReader('path'), get_y=ColReader(['a','b']), item_tfms=Resize(32))
    learn = vision_learner(block.dataloaders(df, bs=2, num_workers=0), squeezenet1_1, pretrained=False, normalize=False)
    p = learn.occlude(df, 16, 16, output='prob', progress=False).baseline
    assert torch.allclose(p, learn.get_preds(dl=learn.dls.test_dl(df), with_input=False)[0], atol=1e-4) and (p.sum(1)-1).abs().max()>1e-3

@pytest.mark.parametrize('x,why', [('eye.png','not as str'), (Image.new('RGB', (9,9)),'not as Image'), ([torch.zeros(3,9,9)]*2,'not as list'),
                                   (torch.zeros(3,9,9, dtype=torch.uint8),'are bytes')])
def test_what_is_no_batch_of_pictures(x, why):
    with pytest.raises(DataError, match=why): occlusion(conv_net(3,2), x, 4)
