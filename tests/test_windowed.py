"Windows computed alone give what whole pictures give: real nets, drawn nets, odd sizes, in-place code, and what does not fit"
import numpy as np, pytest, timm, torch, torchvision
from hypothesis import HealthCheck, given, settings, strategies as st
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from fundus_fastai.core import ModelError
from fundus_fastai.explain import occlusion as occ, windowed as win
from fundus_fastai.explain.occlusion import occlusion
from fundus_fastai.explain.windowed import Shared, Windowed, dense, lighten

torch.set_num_threads(1)

def windows(im, size, step, fill=.3):
    "Copies of `im` [1,C,H,W], windows (h,w) at a regular grid and at the far borders"
    (H,W),(h,w) = im.shape[2:],size
    ys,xs = [sorted({*range(0, n-k+1, step), n-k}) for n,k in ((H,h),(W,w))]
    y,x = np.array([(i,j) for i in ys for j in xs]).T
    return Windowed(im, torch.full((len(y),im.shape[1],h,w), fill), y, x)

def unequal(net, size=(64,64), window=(16,16), step=13, channels=3, seed=0):
    "Largest difference to whole pictures as a share of the largest output"
    torch.manual_seed(seed)
    ws = windows(torch.randn(1,channels,*size), window, step)
    with torch.inference_mode(): a,b = dense(net.eval()(ws)),net(dense(ws))
    assert a.shape==b.shape
    return float((a-b).abs().max()/b.abs().max().clamp(min=1e-9))

timm_nets = ['resnet18','resnet50','resnet50d','densenet121','mobilenetv2_100','mobilenetv3_small_050','regnetx_002','efficientnet_b0',
             'vgg11_bn','test_convnext','test_vit','squeezenet1_1','inception_v3']

@pytest.mark.parametrize('arch', timm_nets)
def test_real_nets(arch):
    torch.manual_seed(0)
    if arch=='squeezenet1_1': net,size = torchvision.models.squeezenet1_1(num_classes=3),(67,80)
    elif arch=='inception_v3': net,size = timm.create_model(arch, num_classes=3, aux_logits=False),(107,96)
    else: net,size = timm.create_model(arch, num_classes=3),(160,160) if arch=='test_vit' else (67,80)
    assert unequal(net, size)<1e-5

@pytest.mark.parametrize('size,window,step', [((41,97),(7,11),9), ((33,32),(33,32),5), ((50,50),(1,1),17), ((64,48),(40,5),50)])
def test_odd_sizes_and_windows(size, window, step):
    assert unequal(timm.create_model('resnet10t', num_classes=2), size, window, step)<1e-5

def draw_layer(draw, c):
    "A layer, and its channels"
    kind = draw(st.sampled_from(['conv','conv','max','avg','bn','act','res','cat','gate']))
    if kind=='conv':
        g = draw(st.sampled_from([1,2])); k = draw(st.tuples(*[st.integers(1,5)]*2)); d = draw(st.integers(1,2))
        p = tuple(draw(st.integers(0, 3)) for _ in k)
        return nn.Conv2d(c, 8, k, draw(st.integers(1,3)), p, d, g),8
    if kind in ('max','avg'):
        k,ceil = draw(st.integers(1,4)),draw(st.booleans()); s,p = draw(st.integers(1,3)),draw(st.integers(0,k//2))
        if kind=='max': return nn.MaxPool2d(k, s, p, ceil_mode=ceil),c
        return nn.AvgPool2d(k, s, p, ceil, draw(st.booleans())),c
    if kind=='bn':
        bn = nn.BatchNorm2d(c); bn.running_mean.normal_(); bn.running_var.uniform_(.5, 2); return bn,c
    if kind=='act': return draw(st.sampled_from([nn.ReLU(True), nn.SiLU(), nn.Hardswish(True), nn.LeakyReLU(.1, True), nn.GELU()])),c
    return Branch(kind, c, draw(st.integers(1,5))),2*c if kind=='cat' else c

class Branch(nn.Module):
    "A residual, a stack or a gate over the whole picture"
    def __init__(self, kind, c, k): super().__init__(); self.kind,self.conv = kind,nn.Conv2d(c, c, k, padding='same')
    def forward(self, x):
        y = self.conv(x)
        if self.kind=='cat': return torch.cat([x,y], 1)
        if self.kind=='gate': return x*y.mean((2,3), keepdim=True).sigmoid()
        y += x
        return y

@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_drawn_nets(data):
    "Any small net of these parts, on any size, gives the same either way"
    torch.manual_seed(data.draw(st.integers(0, 99)))
    layers,c = [nn.Conv2d(2, 8, 3, padding=1)],8
    for _ in range(data.draw(st.integers(1, 5))):
        layer,c = draw_layer(data.draw, c); layers.append(layer)
    size = data.draw(st.tuples(*[st.integers(24, 40)]*2)); window = data.draw(st.tuples(*[st.integers(1, 14)]*2))
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c, 3)).eval()
    try: net(torch.zeros(2,2,*size))
    except RuntimeError: return # a net that has run out of pixels
    assert unequal(net, size, window, 9, channels=2)<1e-5

def test_it_is_windows_that_are_computed(monkeypatch):
    "Early layers see small rectangles, not the whole map"
    seen = []
    was = F.conv2d
    monkeypatch.setattr(win.F, 'conv2d', lambda x, *a, **k: (seen.append(tuple(x.shape)), was(x, *a, **k))[1])
    net = timm.create_model('resnet18', num_classes=2).eval()
    with torch.inference_mode(): net(windows(torch.randn(1,3,224,224), (32,32), 32))
    area = sum(n*c*h*w for n,c,h,w in seen if n==49)
    whole = sum(49*c*h*w for n,c,h,w in seen if n==1)
    assert seen and area<.5*whole

def maps(net, x, fast, **kw):
    "An occlusion map, on windows or on whole pictures"
    was = occ._one_image
    if not fast: occ._one_image = lambda *a: 1/0
    try:
        if fast: return occlusion(net, x, progress=False, **kw)
        with pytest.warns(UserWarning, match='cannot be computed on windows'): return occlusion(net, x, progress=False, **kw)
    finally: occ._one_image = was

@pytest.mark.parametrize('fill', ['mean','zero','blur',.5])
@pytest.mark.parametrize('output', ['logit','prob'])
def test_maps_are_the_same(fill, output):
    torch.manual_seed(2)
    net,x = timm.create_model('resnet10t', num_classes=3).eval(),torch.randn(3,3,50,60)
    x[1,:,:,:30] = 0 # windows that change nothing
    a,b = (maps(net, x, f, window=(9,14), stride=7, fill=fill, output=output, bs=23) for f in (True,False))
    assert torch.allclose(a.values, b.values, atol=1e-5*float(b.baseline.abs().max())) and torch.allclose(a.baseline, b.baseline, atol=1e-6)

class Stubborn(nn.Module):
    "A net whose own code wants real numbers in between"
    def __init__(self): super().__init__(); self.c = nn.Conv2d(3, 4, 3)
    def forward(self, x): return torch.from_numpy(np.maximum(self.c(x).numpy(), 0)).mean((2,3))

def test_a_net_that_takes_no_windows_gets_pictures():
    torch.manual_seed(3)
    net,x = Stubborn().eval(),torch.randn(1,3,20,20)
    a,b = (maps(net, x, f, window=5, stride=5) for f in (True,False))
    assert torch.allclose(a.values, b.values, atol=1e-6) and a.values.abs().max()>0
    class Strict(Stubborn):
        def forward(self, x):
            if type(x) is not torch.Tensor: raise TypeError('no tensor')
            return self.c(x).relu().mean((2,3))
    net.__class__ = Strict
    with pytest.warns(UserWarning, match='no tensor.*whole pictures, slower'): c = maps(net, x, True, window=5, stride=5)
    assert torch.allclose(c.values, b.values, atol=1e-6)
    net.__class__ = Stubborn
    with pytest.raises(ModelError, match='cannot be computed on windows'): occ.plan(net, 20, 5, 5)

def test_errors_of_the_net_are_told():
    class Broken(nn.Module):
        def forward(self, x): raise RuntimeError('seventeen')
    with pytest.raises(RuntimeError, match='seventeen'): occlusion(Broken(), torch.randn(1,3,20,20), 5, 5, progress=False)
    with pytest.raises(ModelError, match='training mode'), torch.no_grad():
        nn.BatchNorm2d(3).train()(windows(torch.randn(1,3,20,20), (5,5), 5))


def shaken(arch, **kw):
    "A net whose batch norms do something"
    torch.manual_seed(4)
    net = timm.create_model(arch, num_classes=3, **kw).eval()
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d):
            for t in (m.running_mean,m.bias.data): nn.init.normal_(t, std=.3)
            for t in (m.running_var,m.weight.data): nn.init.uniform_(t, .5, 1.5)
    return net

@pytest.mark.parametrize('arch', ['resnet10t','densenet121','mobilenetv2_050','regnetx_002','efficientnet_b0','inception_v3'])
def test_folded_norms(arch):
    net,x = shaken(arch),torch.randn(2,3,96,96)
    a,b = (maps(net, x, f, window=24, stride=24) for f in (True,False))
    assert (a.values-b.values).abs().max()<1e-5*b.baseline.abs().max() and b.values.abs().max()>1e-4
    found = lighten(net, x[:1])[1]
    norms = sum(isinstance(m, nn.BatchNorm2d) for m in net.modules())
    assert .45*norms < sum(o is True for o in found.values()) <= norms # DenseNet's own come before convolutions

class Twice(nn.Module):
    "Convolutions whose norms must not be folded: used twice, looked at, followed by two norms"
    def __init__(self):
        super().__init__()
        self.a,self.b,self.c = (nn.Conv2d(i, 4, 3, padding=1) for i in (3,4,4))
        self.n,self.m,self.k = nn.BatchNorm2d(4),nn.BatchNorm2d(4),nn.BatchNorm2d(4)
        for o in (self.n,self.m,self.k): nn.init.normal_(o.running_mean); nn.init.uniform_(o.running_var, .5, 2)
    def forward(self, x):
        y = self.a(x)
        z = self.n(y)+y # the plain result is used as well
        z = self.m(self.b(self.m(self.b(z)))) # the same twice
        u = self.c(z)
        return (self.k(u)-self.n(u)).mean((2,3))

def test_norms_that_must_not_be_folded():
    torch.manual_seed(5)
    net,x = Twice().eval(),torch.randn(1,3,30,30)
    a,b = (maps(net, x, f, window=6, stride=5) for f in (True,False))
    assert (a.values-b.values).abs().max()<1e-5*b.baseline.abs().max()
    with torch.no_grad(): assert not any(o is True for o in lighten(net, x)[1].values())

@pytest.mark.parametrize('size, window, stride, most', [(224,32,16,.47), (448,32,32,.20)])
def test_work_is_saved(size, window, stride, most):
    p = occ.plan(timm.create_model('resnet50'), size, window, stride)
    assert p.attrs['work']<=most and p.attrs['gain']==pytest.approx(1/p.attrs['work'])
    assert not p.whole.iloc[0] and p.whole.iloc[-2]

class Counted(TorchDispatchMode):
    "How many operations reach the device, views left out"
    n = 0
    def __torch_dispatch__(self, f, types, args=(), kwargs=None):
        self.n += not (f.is_view or 'detach' in str(f))
        return f(*args, **(kwargs or {}))

def test_operations_of_a_chunk():
    net,x = timm.create_model('resnet50').to('meta').eval(),torch.empty(1,3,224,224, device='meta')
    with torch.no_grad():
        run = Shared([*net.parameters(), *net.buffers(), x], lighten(net, x)[1])
        ns = []
        for at in ([(0,0),(0,192)],[(96,96),(112,96)],[(64,64),(128,96)]):
            w = Windowed(x, torch.empty(2,3,32,32, device='meta'), *np.array(at).T, run)
            with Counted() as c: net(w)
            ns.append(c.n)
    assert ns[0]<480 and max(ns[1:])<=320 # the first one computes the picture itself as well

@pytest.mark.parametrize('answer', [lambda y: (y,y), lambda y: {'y':y}])
def test_other_answers_are_refused(answer):
    class Net(nn.Module):
        def __init__(self): super().__init__(); self.c = nn.Conv2d(3, 2, 3)
        def forward(self, x): return answer(self.c(x).mean((2,3)))
    with pytest.raises(ModelError, match='wrap it'): occlusion(Net().eval(), torch.randn(1,3,20,20), 5, 5, progress=False)

def test_hooks_and_training_mode():
    net,x,seen = shaken('resnet10t').train(),torch.randn(1,3,40,40),[]
    want = maps(net, x, True, window=10, stride=10)
    net.layer1.register_forward_hook(lambda m, i, o: seen.append(tuple(o.shape)))
    net.layer2.register_forward_hook(lambda m, i, o: o*2)
    got = maps(net, x, True, window=10, stride=10)
    assert net.training and seen and not torch.allclose(got.values, want.values)
    assert torch.allclose(got.values, maps(net, x, False, window=10, stride=10).values, atol=1e-5)
