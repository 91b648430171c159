"Windows computed alone give what whole pictures give: real nets, drawn nets, odd sizes, in-place code, and what does not fit"
import warnings, numpy as np, pytest, timm, torch, torchvision
from hypothesis import HealthCheck, given, settings, strategies as st
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from fundus_fastai.core import EyeWarning, ModelError
from fundus_fastai.explain import occlusion as occ, windowed as win
from fundus_fastai.explain.occlusion import occlusion
from fundus_fastai.explain.windowed import Shared, Windowed, _folded, dense, fold_batchnorm

torch.set_num_threads(1)

def windows(im, size, step, fill=.3):
    "Copies of `im` [B,C,H,W], windows (h,w) at a regular grid and at the far borders, of one picture after the other"
    (H,W),(h,w) = im.shape[2:],size
    ys,xs = [sorted({*range(0, n-k+1, step), n-k}) for n,k in ((H,h),(W,w))]
    y,x = np.array([(i,j) for i in ys for j in xs]).T
    return Windowed(im, torch.full((len(y),im.shape[1],h,w), fill), y, x, of=np.arange(len(y))%len(im))

def unequal(net, size=(64,64), window=(16,16), step=13, channels=3, seed=0, pictures=1, moved=0):
    "Largest difference to whole pictures as a share of the largest output"
    torch.manual_seed(seed)
    ws = windows(torch.randn(pictures,channels,*size), window, step)
    with torch.inference_mode(): a,b = dense(net.eval()(ws)),net(dense(ws))
    assert a.shape==b.shape
    if moved: assert (b[:-pictures]-b[-1]).abs().max()>moved*b.abs().max() # the windows matter to this net
    return float((a-b).abs().max()/b.abs().max().clamp(min=1e-9))

timm_nets = ['resnet18','resnet50','resnet50d','densenet121','mobilenetv2_100','mobilenetv3_small_050','regnetx_002','efficientnet_b0',
             'vgg11_bn','test_convnext','test_vit','squeezenet1_1','inception_v3','tf_mobilenetv3_small_minimal_100','shufflenet']

@pytest.mark.parametrize('arch', timm_nets)
def test_real_nets(arch):
    torch.manual_seed(0)
    if arch=='squeezenet1_1': net,size = torchvision.models.squeezenet1_1(num_classes=3),(67,80)
    elif arch=='shufflenet': net,size = torchvision.models.shufflenet_v2_x0_5(num_classes=3),(67,80)
    elif arch=='inception_v3': net,size = timm.create_model(arch, num_classes=3, aux_logits=False),(107,96)
    else: net,size = timm.create_model(arch, num_classes=3),(160,160) if arch=='test_vit' else (67,80)
    assert unequal(net, size, moved=1e-5)<1e-5

@pytest.mark.parametrize('size,window,step', [((41,97),(7,11),9), ((33,32),(33,32),5), ((50,50),(1,1),17), ((64,48),(40,5),50)])
def test_odd_sizes_and_windows(size, window, step):
    assert unequal(timm.create_model('resnet10t', num_classes=2), size, window, step)<1e-5

def draw_layer(draw, c):
    "A layer, and its channels"
    kind = draw(st.sampled_from(['conv','conv','max','avg','bn','act','res','cat','gate','pad','resize','last','shuffle','area','slice']))
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
    if kind=='pad': return Does(F.pad, draw(st.tuples(*[st.integers(-1,4)]*4)), draw(st.sampled_from(['constant','replicate']))),c
    if kind=='resize':
        mode,scale = draw(st.sampled_from(['nearest','bilinear','bicubic','area'])),draw(st.sampled_from([.5,.7,1.4,2.]))
        return Does(F.interpolate, scale_factor=scale, mode=mode),c
    if kind=='area': return nn.AdaptiveAvgPool2d(draw(st.tuples(*[st.integers(2,9)]*2))),c
    if kind=='slice':
        a,b,up = draw(st.integers(0,5)),draw(st.integers(1,3)),draw(st.booleans())
        return Does(lambda x: x[:,:,a:,::b].flip(2 if up else 3)),c
    if kind=='last': return Last(c),c
    if kind=='shuffle': return Does(shuffled),c
    return Branch(kind, c, draw(st.integers(1,5))),2*c if kind=='cat' else c

class Does(nn.Module):
    "A function as a layer"
    def __init__(self, f, *args, **kwargs): super().__init__(); self.f,self.args,self.kwargs = f,args,kwargs
    def forward(self, x): return self.f(x, *self.args, **self.kwargs)

class Last(nn.Module):
    "Channels last, as in ConvNeXt"
    def __init__(self, c): super().__init__(); self.norm,self.mix,self.g = nn.LayerNorm(c),nn.Linear(c, c),nn.Parameter(torch.randn(c))
    def forward(self, x):
        y = F.gelu(self.mix(self.norm(x.permute(0,2,3,1))))*self.g
        return x+y.permute(0,3,1,2)

def shuffled(x): # as in ShuffleNet
    n,c,h,w = x.size()
    return x.view(n, 2, c//2, h, w).transpose(1, 2).contiguous().view(n, c, h, w)

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
    pool = data.draw(st.sampled_from([nn.AdaptiveAvgPool2d(1), nn.AdaptiveMaxPool2d(1)]))
    net = nn.Sequential(*layers, pool, nn.Flatten(), nn.Linear(c, 3)).eval()
    try: net(torch.zeros(2,2,*size))
    except RuntimeError: return # a net that has run out of pixels
    assert unequal(net, size, window, 9, channels=2, pictures=data.draw(st.integers(1,3)))<1e-5

ops = {'pad': lambda x: F.pad(x, (3,0,2,5)), 'pad value': lambda x: F.pad(x, (1,1), value=.7), 'reflect': lambda x: F.pad(x, [4,5,6,3], mode='reflect'),
       'replicate': lambda x: F.pad(x, (2,2,3,1), 'replicate'), 'circular': lambda x: F.pad(x, (3,2,1,2), mode='circular'),
       'uneven': lambda x: F.interpolate(x, scale_factor=(.3,2.)), 'crop': lambda x: F.pad(x, (-2,1,0,-9)), 'slice': lambda x: x[:,1:3,2:-3:2,5:], 'rows': lambda x: x[:,:,3:], 'dots': lambda x: x[...,::2,1::2],
       'flip': lambda x: x.flip(3), 'flip both': lambda x: torch.flip(x, [-1,2]), 'nearest': lambda x: F.interpolate(x, scale_factor=2),
       'bilinear': lambda x: F.interpolate(x, (50,21), mode='bilinear'), 'corners': lambda x: F.interpolate(x, scale_factor=(1.5,2.), mode='bilinear', align_corners=True),
       'bicubic': lambda x: F.interpolate(x, scale_factor=1.7, mode='bicubic'), 'smooth': lambda x: F.interpolate(x, (15,18), mode='bilinear', antialias=True),
       'upsample': nn.Upsample(scale_factor=3, mode='nearest'), 'smaller': lambda x: F.interpolate(x, scale_factor=.3, mode='area'),
       'average 7': nn.AdaptiveAvgPool2d(7), 'average 10x6': nn.AdaptiveAvgPool2d((10,6)), 'average, same': nn.AdaptiveAvgPool2d((None,12)),
       'largest 6x8': nn.AdaptiveMaxPool2d((6,8)), 'shuffle': lambda x: F.pixel_shuffle(x, 2), 'channels': lambda x: shuffled(x),
       'last': lambda x: (F.layer_norm(x.permute(0,2,3,1), (4,))*torch.arange(4.)).permute(0,3,1,2), 'torch.permute': lambda x: torch.permute(x, (0,3,1,2))*2,
       **{f'conv {k}': lambda x, k=k: F.conv2d(x, torch.arange(16.*k[0]*k[1]).view(4,4,*k[:2])/99, stride=k[2:]) for k in ((1,2,1,1),(2,1,1,1),(1,1,2,1),(1,1,1,1))},
       'conv padded': lambda x: F.conv2d(x, torch.ones(4,4,1,1)/4, torch.ones(4), padding=(0,1)), 'cat': lambda x: torch.cat([x,x*2], -3),
       'soft': lambda x: x.softmax(1), 'transpose': lambda x: x.transpose(1, 3).tanh()}

@pytest.mark.parametrize('name', ops)
def test_operations_stay_windows(name):
    "Each gives what whole pictures give, and does not fill the map"
    x = torch.randn(2,4,36,40, generator=torch.Generator().manual_seed(1))
    for ws in (windows(x, (3,2), 7), windows(x, (6,9), 5)):
        y = ops[name](ws)
        assert isinstance(y, Windowed) and torch.allclose(dense(y), ops[name](dense(ws)), atol=1e-5)
    inner = Windowed(x, torch.ones(2,4,2,2), [15,18], [20,17], of=[1,0])
    y = ops[name](inner)
    assert torch.allclose(dense(y), ops[name](dense(inner)), atol=1e-5) and not y.whole

pools = {'avg': nn.AdaptiveAvgPool2d(1), 'max': nn.AdaptiveMaxPool2d(1), 'mean': lambda x: x.mean((2,3)), 'amax': lambda x: x.amax((-2,-1), keepdim=True),
         'concat': lambda x: torch.cat([F.adaptive_max_pool2d(x, 1), F.adaptive_avg_pool2d(x, 1)], 1)}

@pytest.mark.parametrize('name', pools)
@pytest.mark.parametrize('window', [(5,4),(30,3),(30,32)])
def test_pools_over_the_whole_map(name, window):
    x = torch.randn(3,4,30,32, generator=torch.Generator().manual_seed(2))
    x[:,:,7,9] = 9.; x[1,:,29,31] = 10.; x[2] -= 20 # the largest is covered now and then, at a border too, or is the window
    ws = windows(x, window, 3, fill=-12.)
    assert torch.allclose(dense(pools[name](ws)), pools[name](dense(ws)), atol=1e-5)

def test_what_mixes_pixels_or_pictures_is_whole():
    ws = windows(torch.randn(2,4,12,12), (3,3), 4)
    for f in (lambda x: F.layer_norm(x, (12,)), lambda x: F.layer_norm(x, (4,12,12)), lambda x: F.linear(x, torch.ones(5,12)), lambda x: x.softmax(3),
              lambda x: F.group_norm(x, 2), lambda x: F.instance_norm(x), lambda x: x.view(-1,4,12,12), lambda x: x.view(len(x), 4, 144).mean(2),
              lambda x: x.permute(1,0,2,3), lambda x: x.flip(0), lambda x: torch.cat([x,x+1], 3), lambda x: torch.cat([x,x+1], 2), lambda x: x.softmax(0), lambda x: x[1:], lambda x: x[:,0], lambda x: x[...,None],
              lambda x: x.permute(0,2,3,1)+x.permute(0,2,3,1), lambda x: x.permute(0,2,3,1).mean((1,2)), lambda x: F.adaptive_max_pool2d(x, 5),
              lambda x: x.view(-1,2,12,12), lambda x: F.max_pool2d(x.permute(0,3,2,1), 3), lambda x: x.permute(0,2,3,1)*torch.arange(12.).view(1,12,1,1)):
        assert torch.allclose(dense(f(ws)), f(dense(ws)), atol=1e-5)

def test_channels_are_changed_in_place():
    "`x[i] *= 2` ends as `x[i] = x[i]`; a part that is written into by itself is no longer what was cut, and that is told"
    ws = windows(torch.randn(2,4,12,12), (3,3), 4)
    want = dense(ws).clone()
    want[:,:2] *= 2
    ws[:,:2] *= 2
    assert torch.equal(dense(ws), want)
    part = ws[:,2:]
    part *= 2
    with pytest.raises(ModelError, match='a view was written into'): dense(ws)
    other = windows(torch.randn(2,4,12,12), (3,3), 4)
    cut = other[:,:2]
    cut *= 2
    with pytest.raises(ModelError, match='a view was written into'): other[:,2:] = cut

@pytest.mark.parametrize('arch', ['resnet10t','test_convnext','mobilenetv2_050','test_efficientnet'])
def test_several_pictures(arch):
    assert unequal(timm.create_model(arch, num_classes=3), (67,80), pictures=3)<1e-5

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
    was = occ._on_windows
    if not fast: occ._on_windows = lambda *a: 1/0
    try:
        if fast: return occlusion(net, x, progress=False, **kw)
        with pytest.warns(EyeWarning, match='cannot be computed on windows'): return occlusion(net, x, progress=False, **kw)
    finally: occ._on_windows = was

@pytest.mark.filterwarnings('error:.*cannot be computed on windows') # nor fallen back to whole pictures
@pytest.mark.parametrize('fill', ['mean','zero','blur',.5])
@pytest.mark.parametrize('output', ['logit','prob'])
def test_maps_are_the_same(fill, output):
    torch.manual_seed(2)
    net,x = timm.create_model('resnet10t', num_classes=3).eval(),torch.randn(3,3,50,60)
    x[1,:,:,:30] = 0 # windows that change nothing
    a,b = (maps(net, x, f, window=(9,14), stride=9, fill=fill, output=output, bs=11) for f in (True,False))
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
    with pytest.warns(EyeWarning, match='no tensor.*whole pictures, slower'): c = maps(net, x, True, window=5, stride=5)
    assert torch.allclose(c.values, b.values, atol=1e-6)
    net.__class__ = Stubborn
    with pytest.raises(ModelError, match='cannot be computed on windows'): occ.plan(net, 20, 5, stride=5)

def test_errors_of_the_net_are_told():
    class Broken(nn.Module):
        def forward(self, x): raise RuntimeError('seventeen')
    with pytest.raises(RuntimeError, match='seventeen'): occlusion(Broken(), torch.randn(1,3,20,20), 5, stride=5, progress=False)
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
    assert (a.values-b.values).abs().max()<3e-5*b.baseline.abs().max() and b.values.abs().max()>1e-4
    found = fold_batchnorm(net, x[:1])[1]
    norms = sum(isinstance(m, nn.BatchNorm2d) for m in net.modules())
    assert .45*norms < sum(o[3] is not None for o in found.values()) <= norms # DenseNet's own come before convolutions

class AppleTensor(torch.Tensor):
    "As on a graphics card of Apple's, which knows no float64"
    device = torch.device('mps')
    def double(self): raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
    def cpu(self): return self.as_subclass(torch.Tensor)

def test_norms_are_folded_without_float64():
    "It was given up there, with a warning, for whole pictures"
    parts = torch.randn(4, 3, 3, 3),None,torch.randn(4),torch.rand(4),torch.rand(4),None
    apple = [o if o is None else o.as_subclass(AppleTensor) for o in parts]
    for a,b in zip(_folded(*parts, 1e-5), _folded(*apple, 1e-5)): assert torch.equal(a, b.cpu()) and b.dtype==torch.float32

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
    with torch.no_grad(): assert all(o[3] is None for o in fold_batchnorm(net, x)[1].values())

def shapes_of(make, *args):
    "A net whose weights nobody drew: a plan asks for shapes alone, and to draw them takes longer"
    with torch.device('meta'): net = make(*args)
    return net.to_empty(device='cpu')

@pytest.mark.parametrize('size, window, stride, most', [(224,32,16,.47), (448,32,32,.20)])
def test_work_is_saved(size, window, stride, most):
    p = occ.plan(shapes_of(timm.create_model, 'resnet50'), size, window, stride=stride)
    assert p.attrs['work']<=most and p.attrs['gain']==pytest.approx(1/p.attrs['work'])
    assert not p.whole.iloc[0] and p.whole.iloc[-2]

def test_a_plan_of_a_net_that_hands_its_token_on():
    "CaiT gives its class token to a block: that has windows, and the plan is to say so"
    kw = dict(num_classes=2, img_size=32, depth=1, depth_token_only=1, embed_dim=16, num_heads=2)
    net = timm.create_model('cait_xxs24_224', **kw)
    assert occ.plan(net, 32, 16, stride=16).attrs['windows']==4
    maps(net, torch.randn(1,3,32,32), True, window=16, stride=16)

class Counted(TorchDispatchMode):
    "How many operations reach the device, views left out"
    n = 0
    def __torch_dispatch__(self, f, types, args=(), kwargs=None):
        self.n += not (f.is_view or 'detach' in str(f))
        return f(*args, **(kwargs or {}))

def test_operations_of_a_chunk():
    net,x = timm.create_model('resnet50').to('meta').eval(),torch.empty(1,3,224,224, device='meta')
    with torch.no_grad():
        run = Shared([*net.parameters(), *net.buffers(), x], fold_batchnorm(net, x)[1])
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
    with pytest.raises(ModelError, match='wrap it'): occlusion(Net().eval(), torch.randn(1,3,20,20), 5, stride=5, progress=False)

def test_hooks_and_training_mode():
    net,x,seen = shaken('resnet10t').train(),torch.randn(1,3,40,40),[]
    want = maps(net, x, True, window=10, stride=10)
    net.layer1.register_forward_hook(lambda m, i, o: seen.append(tuple(o.shape)))
    net.layer2.register_forward_hook(lambda m, i, o: o*2)
    got = maps(net, x, True, window=10, stride=10)
    assert net.training and seen and not torch.allclose(got.values, want.values)
    assert torch.allclose(got.values, maps(net, x, False, window=10, stride=10).values, atol=1e-5)

class Functional(nn.Module):
    "No modules, results of in-place calls ignored, weights that are made on the way"
    def __init__(self): super().__init__(); self.w = nn.Parameter(torch.randn(6,3,3,3)); self.g = nn.Parameter(torch.rand(6))
    def forward(self, x):
        y = F.conv2d(x, weight=self.w/self.w.norm(), bias=None, padding=1)
        F.relu(y, inplace=True); y.add_(1).mul_(self.g[:,None,None]); y += y*.5; y -= F.avg_pool2d(y, 3, 1, 1)
        z = torch.add(input=y, other=y, alpha=2)
        z = torch.where(z>0, z, -z) # no operation on windows
        return F.linear(torch.amax(z, dim=(2,3)), self.g.view(2,3).repeat(1,2))

def test_functional_and_in_place():
    torch.manual_seed(6)
    net,x = Functional(),torch.randn(3,3,30,34)
    a,b = (maps(net, x, f, window=8, stride=7) for f in (True,False))
    assert torch.allclose(a.values, b.values, atol=1e-5*float(b.baseline.abs().max())) and b.values.abs().max()>1e-3

class Alike(nn.Module):
    "Two weights by name whose printed forms are the same"
    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(torch.randn(8,8,5,5)); self.b = nn.Parameter(self.a.detach().clone()); self.b.data[4,4] += 3
    def forward(self, x): return (F.conv2d(x, weight=self.a)-F.conv2d(x, weight=self.b)).square().mean((2,3))

def test_remembered_by_tensor_and_not_by_print():
    torch.manual_seed(7)
    net,x = Alike(),torch.randn(1,8,20,20)
    assert repr(net.a.data)==repr(net.b.data)
    with warnings.catch_warnings():
        warnings.filterwarnings('error', message='.*cannot be computed on windows')
        assert maps(net, x, True, window=5, stride=5).baseline[0,4]>1

def test_pictures_in_one_batch(monkeypatch):
    "Ten pictures, few windows each: several pictures a batch, in whatever groups, and the values of one at a time"
    net,x = shaken('resnet10t'),torch.randn(10,3,64,60)
    x[3,:,:40] = 0; x[7] = 0 # some, or all windows change nothing
    sizes = []
    was = occ._on_windows
    monkeypatch.setattr(occ, '_on_windows', lambda net, im, *a: (sizes.append(len(im)), was(net, im, *a))[1])
    many = occlusion(net, x, 16, stride=16, fill=0, bs=16, progress=False)
    assert max(sizes)==4 and sorted(set(sizes))==[2,4]
    for o,v,b in zip(x, many.values, many.baseline):
        one = occlusion(net, o, 16, stride=16, fill=0, progress=False)
        eps = 1e-5*float(many.baseline.abs().max())
        assert torch.allclose(v, one.values[0], atol=eps) and torch.allclose(b, one.baseline[0], atol=eps)

@pytest.mark.parametrize('arch,most', [('convnext_tiny',.95), ('tf_efficientnet_lite0',.7), ('shufflenet',.75)])
def test_turned_and_padded_nets_gain(arch, most):
    net = shapes_of(*((torchvision.models.shufflenet_v2_x1_0,) if arch=='shufflenet' else (timm.create_model,arch)))
    assert occ.plan(net, 224, 32, stride=32).attrs['work']<most
