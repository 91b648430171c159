"Methods of explanation: against other programs, against truths known by hand, and nothing left behind"
import sys, warnings
import numpy as np, pandas as pd, pytest, timm, torch
from fastai.data.all import CategoryBlock, ColReader, DataBlock, IndexSplitter
from fastai.learner import Learner
from fastai.losses import CrossEntropyLossFlat
from fastai.vision.all import ImageBlock, Normalize, Resize, imagenet_stats
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import nn
from torch.nn import functional as F
from fundus_fastai.core import DataError, EyeError, EyeWarning, ModelError
from fundus_fastai.explain import attribution
from fundus_fastai.vision.probe import linear_probe
from fundus_fastai.vision.outputs import BothOutput, ClassOutput, LabelsOutput, NumberOutput, OrderedOutput
from fundus_fastai.explain.attribution import METHODS, EvidenceMap, compare_methods, evidence, last_map, random_masks
from fundus_fastai.explain.occlusion import OcclusionMap

newest = pytest.mark.newest # what goes through a Learner

torch.set_num_threads(1)

def net(arch='resnet10t', **kw):
    torch.manual_seed(0)
    return timm.create_model(arch, num_classes=3, **kw).eval()

def plain_cam(net, x, layer, k):
    "Grad-CAM as anyone writes it: all gradients, hooks both ways"
    a,g = [],[]
    m = net.get_submodule(layer)
    hooks = [m.register_forward_hook(lambda m, i, o: a.append(o)), m.register_full_backward_hook(lambda m, i, o: g.append(o[0]))]
    net(x.clone().requires_grad_())[:,k].sum().backward()
    for h in hooks: h.remove()
    net.zero_grad()
    cam = F.relu((g[0].mean((2,3), keepdim=True)*a[0]).sum(1, keepdim=True))
    return F.interpolate(cam, x.shape[2:], mode='bilinear', align_corners=False)[:,0].detach()

@pytest.mark.parametrize('arch, layer', [('resnet18','layer4'), ('densenet121','features.norm5'), ('squeezenet1_1',None),
                                         ('mobilenetv2_050','blocks.6')])
def test_grad_cam_is_that_of_others(arch, layer):
    if arch=='squeezenet1_1':
        import torchvision
        torch.manual_seed(0)
        n = torchvision.models.squeezenet1_1(weights=None, num_classes=3).eval()
        for m in n.modules():
            if isinstance(m, nn.ReLU): m.inplace = False
        layer = 'features.12'
    else: n = net(arch)
    for m in n.modules():
        if hasattr(m, 'inplace'): m.inplace = False # the plain way cannot have it
    x = torch.randn(2,3,96,96)
    want = torch.stack([plain_cam(n, x, layer, k) for k in range(3)], 1)
    for m in n.modules():
        if hasattr(m, 'inplace'): m.inplace = True
    got = evidence(n, x, 'grad_cam', layer=layer)
    assert want.abs().max()>0 and torch.allclose(got.map, want, atol=1e-4*float(want.abs().max()))

def test_integrated_gradients_sum_to_the_difference():
    n,x = net(),torch.randn(2,3,64,64)
    e = evidence(n, x, 'integrated_gradients', steps=64)
    with torch.no_grad(): gap = n(x)-n(torch.zeros_like(x))
    assert torch.allclose(e.map.sum((2,3)), gap, atol=.05*float(gap.abs().max()))
    assert torch.allclose(e.baseline, n(x).detach(), atol=1e-5)

class Weighs(nn.Module):
    def __init__(self, c=3):
        super().__init__()
        self.w = nn.Parameter(torch.randn(c,12,16))
    def forward(self, x): s = (x*self.w).sum((1,2,3)); return torch.stack([s,2*s], 1)

@pytest.mark.parametrize('method', ['input_gradient','integrated_gradients'])
def test_a_net_that_weighs_is_told_exactly(method):
    n,x = Weighs(),torch.randn(3,3,12,16)
    e = evidence(n, x, method)
    want = (n.w*x).sum(1).detach()
    assert torch.allclose(e.map[:,0], want, atol=1e-4) and torch.allclose(e.map[:,1], 2*want, atol=1e-4)

def test_hue_is_held():
    "A pixel whose channels pull in opposite ways, by as much as it has of each, has no evidence"
    n = Weighs(); n.w.data[:] = 0; n.w.data[0,3,4],n.w.data[1,3,4] = 1.,-2.
    I = torch.full((1,3,12,16), .4); I[0,1,3,4] = .2
    mean,std = torch.tensor([.5,.4,.3]),torch.tensor([.2,.2,.2])
    x = (I-mean.view(1,3,1,1))/std.view(1,3,1,1)
    assert evidence(n, x, 'hue_gradient', target=0, norm=(mean,std)).map.abs().max()<1e-5
    assert evidence(n, x, 'input_gradient', target=0).map[0,0,3,4].abs()>.1

class Keyhole(nn.Module):
    def forward(self, x): s = x[:,:,8:16,20:28].mean((1,2,3)); return torch.stack([s,-s], 1)

def test_rise_finds_the_keyhole():
    e = evidence(Keyhole(), torch.ones(1,1,32,40), 'rise', masks=1500)
    m = e.map[0,0].numpy()
    y,x = np.unravel_index(m.argmax(), m.shape)
    assert 6<=y<18 and 18<=x<30 and m[8:16,20:28].mean()>5*np.abs(m[20:,:15]).mean()
    assert torch.allclose(e.map[0,0], -e.map[0,1], atol=1e-6)

def test_rise_is_the_covariance_of_score_and_mask():
    "In units of a mask's variance, p(1-p); by numpy"
    n,x = Weighs(),torch.randn(1,3,12,16)
    m = random_masks(40, (12,16), 5, share=.3, seed=4)
    y = n(x*m).detach().numpy()
    want = [np.cov(m.flatten(1).numpy().T, y[:,k], bias=True)[-1,:-1].reshape(12,16)/(.3*.7) for k in (0,1)]
    got = evidence(n, x, 'rise', masks=40, cells=5, share=.3, seed=4, bs=7).map[0].numpy()
    assert np.allclose(got, want, rtol=1e-3, atol=1e-4*np.abs(want).max())

def test_masks_are_spread_evenly():
    m = random_masks(3000, (21,35))
    assert (m.mean(0)-.5).abs().max()<.06 and m.min()>=0 and m.max()<=1

OPTIONS = dict(occlusion=dict(window=16, stride=16), rise=dict(masks=20), integrated_gradients=dict(steps=4), gradient_shap=dict(samples=2))

@pytest.mark.parametrize('method', METHODS)
def test_nothing_is_left_behind(method):
    n,x = net().train(),torch.randn(1,3,64,64)
    n.bn1.eval(); n.conv1.requires_grad_(False)
    modes,asks = [m.training for m in n.modules()],[p.requires_grad for p in n.parameters()]
    before = {k:v.clone() for k,v in n.state_dict().items()}
    with torch.inference_mode(): e = evidence(n, x, method, target=1, **OPTIONS.get(method, {}))
    assert e.map.shape==(1,1,64,64) and e.baseline.shape==(1,1) and e.classes==['1'] and e.map.isfinite().all()
    assert [m.training for m in n.modules()]==modes and [p.requires_grad for p in n.parameters()]==asks
    assert all(p.grad is None for p in n.parameters()) and torch.is_grad_enabled()
    assert not any(m._forward_hooks or m._backward_hooks for m in n.modules())
    assert all(torch.equal(v, before[k]) for k,v in n.state_dict().items())

@pytest.mark.parametrize('method', ['grad_cam','input_gradient','rise'])
def test_state_survives_an_error(method):
    n = net().train()
    with pytest.raises(Exception): evidence(n, torch.randn(1,5,64,64), method)
    assert n.training and all(p.requires_grad for p in n.parameters())
    assert not any(m._forward_hooks for m in n.modules())

@newest
def test_through_a_learner(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(4): Image.fromarray(rng.integers(0, 255, (64,64,3), np.uint8)).save(tmp_path/f'{i}.png')
    df = pd.DataFrame(dict(path=[str(tmp_path/f'{i}.png') for i in range(4)], label=list('abab')))
    block = DataBlock((ImageBlock,CategoryBlock), get_x=ColReader('path'), get_y=ColReader('label'), splitter=IndexSplitter([2,3]),
                      item_tfms=Resize(64), batch_tfms=Normalize.from_stats(*imagenet_stats))
    dls = block.dataloaders(df, bs=2, num_workers=0)
    learn = Learner(dls, timm.create_model('resnet10t', num_classes=2), loss_func=CrossEntropyLossFlat())
    x = torch.cat([b[0] for b in dls.test_dl(df)])
    for m in METHODS:
        a = learn.evidence(df, m, **OPTIONS.get(m, {}))
        assert a.map.shape==(4,2,64,64) and a.classes==['a','b']
        b = evidence(learn, x, m, **OPTIONS.get(m, {}))
        assert torch.allclose(a.map, b.map, atol=1e-5) and a.output==b.output=='logit' and type(a)==type(b)
    mean,std = attribution.norm_of(learn, 3)
    assert torch.allclose(mean, torch.tensor(imagenet_stats[0])) and torch.allclose(std, torch.tensor(imagenet_stats[1]))

def test_bad_input():
    n,x = net(),torch.randn(1,3,64,64)
    with pytest.raises(EyeError, match='did you mean rise'): evidence(n, x, 'rize')
    with pytest.raises(EyeError, match='did you mean steps'): evidence(n, x, 'integrated_gradients', step=3)
    with pytest.raises(EyeError, match='did you mean layer4'): evidence(n, x, 'grad_cam', layer='layer5')
    with pytest.raises(EyeError, match='unknown layer'): evidence(n, x, 'grad_cam', layer='')
    with pytest.raises(EyeError, match='unknown layer 4'): evidence(n, x, 'grad_cam', layer=4)
    with pytest.raises(EyeError, match='did you mean window'): evidence(n, x, 'occlusion', windw=3)
    with pytest.raises(EyeError, match='unknown output'): evidence(n, x, 'rise', output='probs')
    with pytest.raises(DataError, match='smooth is a sigma'): evidence(n, x, 'input_gradient', smooth=-1)
    with pytest.raises(DataError, match='each of 3 channels'): evidence(n, x, 'hue_gradient', norm=([.5]*2,[.5]*2))
    with pytest.raises(DataError, match='each of 3 channels'): evidence(n, x, 'hue_gradient', norm=.5)
    with pytest.raises(DataError, match='deviation above 0'): evidence(n, x, 'hue_gradient', norm=(.5,0))
    with pytest.raises(DataError, match='empty list'): evidence(n, x, 'grad_cam', target=[])
    with pytest.raises(DataError, match='NaN'): evidence(n, x*np.nan, 'grad_cam')
    with pytest.raises(DataError, match='class 3'): evidence(n, x, 'grad_cam', target=3)
    with pytest.raises(ModelError, match='no gradient'): evidence(nn.Sequential(Stops()), x, 'input_gradient')
    with pytest.raises(ModelError, match='no score depends'): evidence(nn.Sequential(nn.Conv2d(3, 4, 3), Stops()), x, 'grad_cam')
    with pytest.raises(ModelError, match='nothing to look at'): last_map(nn.Sequential(nn.Flatten(), nn.Linear(3*64*64, 2)), x)

@pytest.mark.parametrize('method, wrong', [('rise',dict(masks=0)), ('rise',dict(masks=1)), ('rise',dict(masks=2.5)), ('rise',dict(cells=0)),
    ('rise',dict(share=0)), ('rise',dict(share=1)), ('rise',dict(share='x')), ('rise',dict(bs=0)), ('rise',dict(seed=-1)), ('grad_cam',dict(bs=0)),
    ('integrated_gradients',dict(steps=0)), ('gradient_shap',dict(samples=0)), ('gradient_shap',dict(sigma=-.1)), ('rise',dict(smooth=float('nan'))), ('rise',dict(smooth=float('inf'))), ('rise',dict(smooth='x'))])
def test_numbers_that_no_method_can_count_with(method, wrong):
    "Some were a map of NaN, infinite values or zeros, without a word"
    with pytest.raises(DataError, match=next(iter(wrong))): evidence(net(), torch.zeros(1,3,64,64), method, **wrong)

def test_without_noise():
    assert evidence(net(), torch.ones(1,3,32,32), 'gradient_shap', sigma=0, samples=1).map.isfinite().all()

@pytest.mark.parametrize('arch, side, layer', [('inception_v3',96,'Mixed_6e'), ('resnet50',32,'layer3'), ('resnet50',64,'layer4')])
def test_where_branches_are_all_that_is_left_the_map_before_them_is_read(arch, side, layer):
    "A block that ends in one place is no map; one of its branches is none of the whole net"
    assert last_map(net(arch), torch.randn(1,3,side,side))==layer

def test_without_captum_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, 'captum.attr', None); monkeypatch.setitem(sys.modules, 'captum', None)
    with pytest.raises(ModelError, match=r'pip install "fundus_fastai\[explain\]"'):
        evidence(net(), torch.randn(1,3,64,64), 'integrated_gradients')
    assert evidence(net(), torch.randn(1,3,64,64), 'grad_cam').map.shape==(1,3,64,64)

class Stops(nn.Module):
    def forward(self, x): return x.detach().mean((2,3))

def test_a_smooth_map_is_the_map_smoothed():
    n,x = Weighs(),torch.randn(1,3,12,16)
    a,b = (evidence(n, x, 'input_gradient', smooth=s) for s in (0,2))
    assert isinstance(b, EvidenceMap) and b.map.std()<.5*a.map.std() and abs(float(b.map.mean()-a.map.mean()))<.05

# --- which layer, and how it is read

VIT = dict(img_size=64, depth=2, embed_dim=48, num_heads=3)
SWIN = dict(depths=(1,1,1), embed_dim=24, num_heads=(1,2,2), window_size=2)
ZOO = dict(resnet10t={}, convnext_atto={}, mobilenetv3_small_050={}, efficientnet_b0={}, vit_tiny_patch16_224=VIT,
           vit_small_patch14_reg4_dinov2=VIT|dict(img_size=56), swin_tiny_patch4_window7_224=SWIN|dict(img_size=64),
           swinv2_tiny_window8_256=SWIN|dict(img_size=64, window_size=4))

def side(arch): return ZOO[arch].get('img_size', 64)

@pytest.mark.parametrize('arch', ZOO)
def test_every_method_explains_every_net(arch):
    n,x = net(arch, **ZOO[arch]),torch.randn(2,3,side(arch),side(arch))
    for m in METHODS:
        e = evidence(n, x, m, target=[0,2], **OPTIONS.get(m, {}), **(dict(progress=False) if m=='occlusion' else {}))
        assert e.map.shape==(2,2,*x.shape[2:]) and e.map.isfinite().all() and e.classes==['0','2'], m
        assert (e.map.flatten(1).std(1)>0).all(), f'{m}: a map of nothing'

def cam_of_linear(n, f):
    "Where a net ends in a mean over places and a linear layer, Grad-CAM is the linear layer's weights"
    head = next(m for m in list(n.modules())[::-1] if isinstance(m, nn.Linear))
    return torch.einsum('kc,nchw->nkhw', head.weight, f).detach()/f[0,0].numel()

@pytest.mark.parametrize('size', [(64,64), (64,96)])
def test_channels_last_are_read_as_such(size):
    n = net('swin_tiny_patch4_window7_224', img_size=size, **SWIN)
    x = torch.randn(2,3,*size)
    with torch.no_grad(): f = n.forward_features(x)
    assert f.shape==(2,size[0]//16,size[1]//16,96) and last_map(n, x)=='norm'
    want = F.interpolate(cam_of_linear(n, f.permute(0,3,1,2)), size, mode='bilinear')
    for layer in (None,'norm','layers','layers.2.blocks.0'):
        e = evidence(n, x, 'grad_cam', layer=layer, relu=False)
        assert e.map.shape==want.shape
        if layer in (None,'norm'): assert torch.allclose(e.map, want, atol=1e-4*float(want.abs().max()))

@pytest.mark.parametrize('kw', [dict(class_token=False), {}, dict(reg_tokens=3)])
def test_tokens_are_laid_out_on_their_grid(kw):
    n,x = net('vit_tiny_patch16_224', global_pool='avg', fc_norm=False, **VIT, **kw),torch.randn(2,3,64,64)
    with torch.no_grad(): f = n.forward_features(x)
    before = f.shape[1]-16
    assert before==n.num_prefix_tokens and last_map(n, x)=='norm'
    want = F.interpolate(cam_of_linear(n, f[:,before:].transpose(1,2).reshape(2,48,4,4)), (64,64), mode='bilinear')
    assert torch.allclose(evidence(n, x, 'grad_cam', relu=False).map, want, atol=1e-4*float(want.abs().max()))

def test_a_class_token_is_traced_back_to_places():
    "The last tokens of places do not matter to a net that answers from its class token"
    n,x = net('vit_tiny_patch16_224', **VIT),torch.randn(2,3,64,64)
    assert last_map(n, x)=='blocks.1.norm1'
    a,g = [],[]
    n.blocks[1].norm1.register_forward_hook(lambda m, i, o: a.append(o))
    n.blocks[1].norm1.register_full_backward_hook(lambda m, i, o: g.append(o[0]))
    n(x.clone().requires_grad_())[:,2].sum().backward()
    n.blocks[1].norm1._forward_hooks.clear(); n.blocks[1].norm1._backward_hooks.clear(); n.zero_grad()
    grid = lambda o: o[:,1:].transpose(1,2).reshape(2,48,4,4)
    cam = F.relu((grid(g[0]).mean((2,3), keepdim=True)*grid(a[0])).sum(1, keepdim=True))
    want = F.interpolate(cam, (64,64), mode='bilinear')[:,0].detach()
    got = evidence(n, x, 'grad_cam', target=2).map[:,0]
    assert want.max()>0 and torch.allclose(got, want, atol=1e-4*float(want.max()))
    with pytest.raises(ModelError, match="no score depends on the map of layer 'norm'"): evidence(n, x, 'grad_cam', layer='norm')
    for layer in ('blocks.1.attn.k_norm','blocks.1.attn.qkv','head','fc_norm'):
        with pytest.raises(ModelError, match='no map'): evidence(n, x, 'grad_cam', layer=layer)

def test_a_place_is_where_it_is():
    "A net of tokens that looks at one patch only: Grad-CAM is brightest there"
    class One(nn.Module):
        def __init__(self):
            super().__init__(); self.proj = nn.Conv2d(3, 8, 16, 16); self.norm,self.num_prefix_tokens = nn.LayerNorm(8),1
        def forward(self, x):
            t = self.proj(x).flatten(2).transpose(1,2)
            t = self.norm(torch.cat([t.mean(1, keepdim=True)*0,t], 1))
            s = (t[:,1+2*6+4]*torch.arange(1., 9)).sum(1) # row 2, column 4 of 4 rows, 6 columns
            return torch.stack([s,-s], 1)
    torch.manual_seed(0)
    n,x = One(),torch.full((1,3,64,96), .1)
    x[:,:,32:48,64:80] = torch.randn(1,3,16,16)*3
    assert last_map(n, x)=='norm'
    for layer in (None,'proj'):
        m = evidence(n, x, 'grad_cam', layer=layer, relu=False).map[0,0]
        i,j = divmod(int((m-m[0,0]).abs().argmax()), 96); assert 32<=i<48 and 64<=j<80

@pytest.mark.parametrize('arch', ['levit_128s'])
def test_what_cannot_be_read_is_said(arch):
    with pytest.raises(ModelError, match="take method='occlusion'"): evidence(net(arch), torch.randn(1,3,224,224), 'grad_cam')

class Beside(nn.Module):
    "Has a layer that is not used, one that does not matter, one that gives a pair, and one that is cut off"
    def __init__(self):
        super().__init__()
        self.conv,self.idle,self.waste,self.fc = nn.Conv2d(3, 4, 3),nn.Conv2d(3, 4, 3),nn.Conv2d(3, 4, 3),nn.Linear(4, 2)
        self.pair,self.pool,self.cut = Pair(),nn.AdaptiveAvgPool2d(1),nn.Conv2d(3, 4, 3)
    def forward(self, x):
        self.waste(x)
        f = self.pair(self.conv(x))[0]+self.cut(x).detach().mean()
        return self.fc(self.pool(f).flatten(1))

class Pair(nn.Module):
    def forward(self, x): return x,x

def test_layers_that_will_not_do():
    n,x = Beside(),torch.randn(2,3,24,24)
    assert last_map(n, x)=='conv'
    for layer,says in dict(idle='is not used', waste='no score depends', cut='no score depends', pair='a tuple, no map',
                           fc=r'puts out \(2, 2\)', pool=r'puts out \(2, 4, 1, 1\)').items():
        with pytest.raises(ModelError, match=says): evidence(n, x, 'grad_cam', layer=layer)
        assert not any(m._forward_hooks for m in n.modules()) and all(p.requires_grad for p in n.parameters())
    with pytest.raises(ModelError, match='no score depends'): evidence(n, x, 'grad_cam', layer='waste', target=1)

@pytest.mark.filterwarnings('ignore:Grad-CAM is 0')
def test_a_class_that_does_not_hear_the_layer_has_a_map_of_nothing():
    class Half(nn.Module):
        def __init__(self): super().__init__(); self.conv = nn.Conv2d(3, 4, 3)
        def forward(self, x): return torch.stack([self.conv(x).relu().mean((1,2,3)), x.mean((1,2,3))], 1)
    m = evidence(Half(), torch.rand(1,3,16,16), 'grad_cam', layer='conv', relu=False).map[0]
    assert m[0].any() and not m[1].any()

@pytest.mark.parametrize('side,size,yes', [((4,6),(64,96),1), ((6,4),(64,96),0), ((4,6),(96,64),0), ((96,64),(64,96),0), ((7,10),(64,96),1), ((5,5),(64,64),1), ((5,6),(64,64),0)])
def test_a_map_has_the_proportions_of_its_picture(side, size, yes): assert attribution._fits(side, size)==yes

def test_a_net_may_work_in_place_from_the_start():
    n = nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    x = torch.randn(1,3,16,16); before = x.clone()
    assert last_map(n, x)=='2'
    for m in METHODS[1:]: # occlusion has its own way
        assert evidence(n, x, m, **OPTIONS.get(m, {})).map.isfinite().all() and torch.equal(x, before), m

# --- the same each time, and in any company

@pytest.mark.parametrize('arch', ['resnet10t','vit_tiny_patch16_224'])
@pytest.mark.parametrize('method', METHODS)
def test_a_map_is_the_same_alone_and_in_a_batch(arch, method):
    n,x = net(arch, **ZOO[arch]),torch.randn(3,3,64,64)
    o = dict(OPTIONS.get(method, {}), **(dict(progress=False) if method=='occlusion' else {}))
    whole = evidence(n, x, method, **o)
    state,dice = torch.get_rng_state(),np.random.get_state()[1].copy()
    for i in (2,0):
        alone = evidence(n, x[i], method, **o)
        assert torch.allclose(alone.map[0], whole.map[i], atol=1e-4*float(whole.map.abs().max())), (method, i)
        assert torch.allclose(alone.baseline[0], whole.baseline[i], atol=1e-4)
    one = evidence(n, x, method, target=1, **o)
    assert torch.allclose(one.map[:,0], whole.map[:,1], atol=1e-4*float(whole.map.abs().max())) # whichever classes are asked for
    assert torch.equal(evidence(n, x, method, **o).map, whole.map)
    assert torch.equal(torch.get_rng_state(), state) and (np.random.get_state()[1]==dice).all()

def test_another_seed_is_another_draw():
    n,x = net(),torch.randn(1,3,64,64)
    a,b,c = (evidence(n, x, 'gradient_shap', samples=2, seed=s).map for s in (0,1,0))
    assert torch.equal(a, c) and not torch.allclose(a, b)

@pytest.mark.parametrize('dice', [torch.manual_seed, np.random.seed])
def test_the_callers_dice_do_not_matter(dice):
    n,x,maps = Two(2),torch.randn(1,3,64,64),[] # a net of ReLUs without biases has the same gradient all along the way
    for i in (1,2):
        dice(i); own,np_own = torch.get_rng_state(),np.random.get_state()[1].copy()
        maps.append(evidence(n, x, 'gradient_shap', samples=2).map)
        assert torch.equal(torch.get_rng_state(), own) and (np.random.get_state()[1]==np_own).all()
    assert torch.equal(*maps)

# --- one quantity

class Two(nn.Module):
    "Two raw outputs, or one, by one convolution"
    def __init__(self, k):
        super().__init__(); torch.manual_seed(3)
        self.conv,self.fc = nn.Conv2d(3, 6, 5, 2),nn.Linear(6, k)
    def forward(self, x): return self.fc(self.conv(x).tanh().mean((2,3)))

@pytest.fixture(scope='module')
def table(tmp_path_factory):
    d,rng = tmp_path_factory.mktemp('eyes'),np.random.default_rng(0)
    for i in range(4): Image.fromarray(rng.integers(0, 255, (32,32,3), np.uint8)).save(d/f'{i}.png')
    return pd.DataFrame(dict(path=[str(d/f'{i}.png') for i in range(4)], label=list('abab')))

def learner(table, answer):
    block = DataBlock((ImageBlock,CategoryBlock), get_x=ColReader('path'), get_y=ColReader('label'), splitter=IndexSplitter([2,3]),
                      item_tfms=Resize(32), batch_tfms=Normalize.from_stats(*imagenet_stats))
    dls = block.dataloaders(table, bs=3, num_workers=0)
    dls.output = answer
    return Learner(dls, Two(answer.n_out), loss_func=answer.loss())

ANSWERS = [NumberOutput(['age'], 60, 10), OrderedOutput(['grade'], 1.5, .8), BothOutput(['female','male'], 60, 10), ClassOutput(['a','b']),
           LabelsOutput(['drusen','haze'])]
SCALE = dict(number=[10], ordered=[.8], both=[1,1,10], category=[1,1], multilabel=[1,1])
UNIT = dict(number='age', ordered='grade', both='logit, age', category='logit', multilabel='logit')

@newest
@pytest.mark.parametrize('answer', ANSWERS, ids=lambda o: o.kind.name)
@pytest.mark.parametrize('method', METHODS)
def test_all_methods_explain_what_occlusion_explains(table, answer, method):
    learn = learner(table, answer)
    o = dict(occlusion=dict(window=8, stride=8, progress=False), rise=dict(masks=30), integrated_gradients=dict(steps=4),
             gradient_shap=dict(samples=2)).get(method, {})
    om = learn.occlude(table, 8, 8, progress=False)
    e = learn.evidence(table, method, **o)
    assert e.classes==om.classes==answer.outputs and e.output==UNIT[answer.kind.name]
    assert torch.allclose(e.baseline, om.baseline, atol=1e-4)
    x = torch.cat([b[0] for b in learn.dls.test_dl(table)])
    norm = attribution.norm_of(learn, 3)
    raw = evidence(learn.model, x, method, norm=norm, **o).map
    scale = torch.tensor(SCALE[answer.kind.name]).view(1,-1,1,1)
    assert torch.allclose(e.map, raw*scale, atol=1e-3*float((raw*scale).abs().max())) # years are 60 and a little
    assert torch.allclose(e.map, evidence(learn, x, method, **o).map, atol=1e-5)
    if answer.kind.number_beside:
        assert learn.evidence(table, method, target='age', **o).output=='age'
        assert learn.evidence(table, method, target='male', **o).output=='logit'

@newest
@pytest.mark.parametrize('answer', ANSWERS, ids=lambda o: o.kind.name)
def test_probabilities_are_those_of_the_answer(table, answer):
    learn = learner(table, answer)
    with torch.no_grad(): want = learn.loss_func.activation(learn.model(torch.cat([b[0] for b in learn.dls.test_dl(table)])))
    for m in ('occlusion','grad_cam','input_gradient'):
        e = learn.evidence(table, m, output='prob')
        assert torch.allclose(e.baseline, want, atol=1e-4), m
        assert e.output==(dict(both='prob, age').get(answer.kind.name) or ('prob' if UNIT[answer.kind.name]=='logit' else UNIT[answer.kind.name]))

@newest
def test_a_function_of_ones_own_is_what_maps_are_counted_in(table):
    "Not the unit of the answer"
    def odds(y): return y.exp()
    learn = learner(table, ANSWERS[0])
    maps = [learn.evidence(table, m, output=odds) for m in ('occlusion','grad_cam')]
    assert [o.output for o in (*maps, learn.occlude(table, 8, 8, output=odds))]==[odds]*3
    with torch.no_grad(): want = learn.model(torch.cat([b[0] for b in learn.dls.test_dl(table)])).exp()
    for o in maps: assert torch.allclose(o.baseline, want, rtol=1e-4)

@newest
def test_occlusion_can_be_smoothed_and_told_where(table):
    learn = learner(table, ANSWERS[3])
    o = dict(window=8, stride=8, progress=False)
    plain,blur = learn.evidence(table, 'occlusion', **o),learn.evidence(table, 'occlusion', smooth=3, **o)
    assert isinstance(plain, OcclusionMap) and isinstance(blur, EvidenceMap) and blur.map.std()<plain.map.std()
    assert torch.allclose(plain.map, learn.occlude(table, **o).map, atol=1e-6) and blur.method=='occlusion' and len(blur)==4
    here = torch.zeros(3,32,32, dtype=torch.bool); here[:,:16,:16] = True
    n,x = learn.model,torch.randn(3,3,32,32)
    m = evidence(n, x, inside=here, **o).map
    assert m[:,:,:16,:16].abs().max()>0 and m[:,:,16:].abs().max()==0
    x[:,:,:8] = 2.; x[:,:,-8:] = 2. # a surround
    a,b = (evidence(n, x, 'occlusion', inside=i, **o).map for i in ('field',None))
    assert a[:,:,:8].abs().max()==0 and b[:,:,:8].abs().max()>0
    where = evidence(n, x, 'occlusion', inside='field', **o).inside[:,None] # a blur does not reach beyond
    assert torch.equal(evidence(n, x, 'occlusion', inside='field', smooth=2, **o).map, torch.from_numpy(gaussian_filter(a.numpy(), (0,0,2,2)))*where)

@newest
def test_compared_side_by_side(table):
    learn = learner(table, ANSWERS[0])
    x = next(iter(learn.dls.test_dl(table)))[0][:1]
    axs = compare_methods(learn, x, 'age', methods=('occlusion','grad_cam'), options=dict(occlusion=dict(window=8, stride=8, inside='field')))
    assert [a.get_title() for a in axs]==['occlusion','grad cam']

def test_contrast_knows_the_picture_and_no_net(table):
    "Beside the methods the same for every net; in the picture where one is given"
    eye = np.zeros((64,64,3), np.uint8)
    eye[np.hypot(*(np.mgrid[:64,:64]-31.5))<29] = 100,60,30
    eye[20:22,40:42,1] = 20
    m = attribution.contrast_map(eye)
    assert np.unravel_index(m.argmax(), m.shape) in {(20,40),(20,41),(21,40),(21,41)} and m.dtype==np.float32 and m.min()>=0
    for f in (None, eye[...,0]>0): # the rim is no spot, whether the field is told or found
        assert attribution.contrast_map(eye, f)[np.hypot(*(np.mgrid[:64,:64]-31.5))>25].max()<.1*m.max()
    assert np.array_equal(attribution.contrast_map(np.full((30,40), 7, np.uint8)), np.zeros((30,40))) # flat
    for bad in (np.zeros((3,4,5,6)), np.zeros((5,6,7))):
        with pytest.raises(DataError): attribution.contrast_map(bad)
    seen = []
    for seed in (0,1):
        torch.manual_seed(seed)
        n = nn.Sequential(nn.Conv2d(3,4,3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4,2)).eval()
        axs = compare_methods(n, torch.randn(1,3,64,64), 0, methods=('input_gradient','contrast'), image=eye)
        seen.append(axs[1].images[1].get_array())
    assert np.array_equal(*seen) and np.allclose(seen[0], m)

def test_a_method_that_cannot_answer_stops_no_other(monkeypatch):
    "A gap with the reason; only where none answers is it an error"
    flat,x = nn.Sequential(nn.Flatten(), nn.Linear(192,2)),torch.randn(1,3,8,8)
    o = dict(options=dict(occlusion=dict(window=4, stride=4)))
    with pytest.warns(EyeWarning, match='no map by grad_cam: .*nothing to look at'):
        axs = compare_methods(flat, x, 1, methods=('grad_cam','occlusion'), **o)
    assert [a.get_title() for a in axs]==['grad cam: no map','occlusion'] and [len(a.images) for a in axs]==[0,2]
    with pytest.raises(ModelError, match='nothing to look at'): compare_methods(flat, x, 1, methods=('grad_cam',))
    with pytest.raises(EyeError, match='did you mean occlusion'): compare_methods(flat, x, 1, methods=('oclusion','grad_cam'), **o)
    with pytest.raises(EyeError, match='0 to 1'): compare_methods(flat, x, 7, methods=('occlusion','grad_cam'), **o)


# --- a linear probe listens to its blocks by hooks

def by_tensor(net, x, layer, k):
    "Grad-CAM from the tensor that the layer gives, whoever reads it"
    seen = []
    def keep(m, i, o):
        seen.append(o)
        return o.clone() # a residual is added in place
    h = net.get_submodule(layer).register_forward_hook(keep, prepend=True)
    s = net(x.clone().requires_grad_())
    h.remove()
    g = torch.autograd.grad(s[:,k].sum(), seen[-1], allow_unused=True)[0]
    if g is None: return None
    return F.interpolate((g.mean((2,3), keepdim=True)*seen[-1]).sum(1, keepdim=True), x.shape[2:], mode='bilinear')[:,0].detach()

@pytest.fixture(scope='module')
def probe():
    torch.manual_seed(0)
    p = linear_probe(nn.Sequential(nn.Sequential(*list(timm.create_model('resnet10t').children())[:-2])), 3).eval()
    nn.init.normal_(p[1][1].weight, std=.1)
    return p

def test_grad_cam_of_a_probe_at_every_layer(probe):
    x,n = torch.randn(2,3,64,64),0
    for layer in [k for k,m in probe.named_modules() if isinstance(m, (nn.Conv2d,nn.BatchNorm2d)) or 'BasicBlock' in type(m).__name__]:
        want = [by_tensor(probe, x, layer, k) for k in range(3)]
        if want[0] is None: continue
        n += 1
        got = evidence(probe, x, 'grad_cam', layer=layer, relu=False).map
        torch.testing.assert_close(got, torch.stack(want, 1), rtol=1e-4, atol=1e-5*float(torch.stack(want).abs().max()))
    assert n>15

def test_a_probe_is_explained_by_default(probe):
    x = torch.randn(1,3,64,64)
    last = last_map(probe, x)
    assert last=='0.body.7.0' # not the body, whose output is the same and comes too late: the probe listens to the block
    got = evidence(probe, x, 'grad_cam', relu=False).map[0]
    torch.testing.assert_close(got, torch.cat([by_tensor(probe, x, last, k) for k in range(3)]), rtol=1e-4, atol=1e-6)
    with warnings.catch_warnings():
        warnings.filterwarnings('error', message='no map by')
        axs = compare_methods(probe, x, 1, options=dict(occlusion=dict(window=32, stride=32), integrated_gradients=dict(steps=2)))
    assert [a.get_title() for a in axs]==['occlusion','grad cam','hue gradient','integrated gradients','contrast'] # the last knows no net

def test_a_cam_of_nothing_is_said():
    n = nn.Sequential(nn.Conv2d(3,4,3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4,2, bias=False)).eval()
    with torch.no_grad():
        n[4].weight[0] = 1
        n[4].weight[1] = -1
    with pytest.warns(EyeWarning, match='0 everywhere in 2 of 4 maps: nothing at layer'): e = evidence(n, torch.randn(2,3,9,9), 'grad_cam')
    assert e.map[:,0].max()>0 and not e.map[:,1].any()

def test_a_faint_effect_is_painted_faintly_beside_others():
    "On a logit of 25 full color is .025 at least; a gradient, which is no effect on it, keeps its own scale"
    net = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 1))
    net[2].weight.data.fill_(1e-3); net[2].bias.data.fill_(25.)
    axs = compare_methods(net, torch.rand(1,3,32,32), 0, methods=('occlusion','input_gradient'), options=dict(occlusion=dict(window=8, stride=8)))
    said = [ax.texts[-1].get_text() for ax in axs]
    assert said[0]=='±0.025' and float(said[1][1:])<1e-4
    axs[0].figure.clear()
