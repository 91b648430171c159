"Methods of explanation: against other programs, against truths known by hand, and nothing left behind"
import sys
import numpy as np, pandas as pd, pytest, timm, torch
from fastai.data.all import CategoryBlock, ColReader, DataBlock, IndexSplitter
from fastai.learner import Learner
from fastai.losses import CrossEntropyLossFlat
from fastai.vision.all import ImageBlock, Normalize, Resize, imagenet_stats
from PIL import Image
from torch import nn
from torch.nn import functional as F
from fundus_fastai.core import DataError, EyeError, ModelError
from fundus_fastai.explain import methods
from fundus_fastai.explain.methods import METHODS, EvidenceMap, evidence, last_map, random_masks

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
    assert evidence(n, x, 'hue_gradient', 0, norm=(mean,std)).map.abs().max()<1e-5
    assert evidence(n, x, 'input_gradient', 0).map[0,0,3,4].abs()>.1

class Keyhole(nn.Module):
    def forward(self, x): s = x[:,:,8:16,20:28].mean((1,2,3)); return torch.stack([s,-s], 1)

def test_rise_finds_the_keyhole():
    e = evidence(Keyhole(), torch.ones(1,1,32,40), 'rise', masks=1500)
    m = e.map[0,0].numpy()
    y,x = np.unravel_index(m.argmax(), m.shape)
    assert 6<=y<18 and 18<=x<30 and m[8:16,20:28].mean()>5*np.abs(m[20:,:15]).mean()
    assert torch.allclose(e.map[0,0], -e.map[0,1], atol=1e-6)

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
    with torch.inference_mode(): e = evidence(n, x, method, 1, **OPTIONS.get(method, {}))
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
        if m!='gradient_shap': # whose noise follows the batches
            assert torch.allclose(a.map, evidence(learn, x, m, **OPTIONS.get(m, {})).map, atol=1e-5)
    mean,std = methods._norm(learn, 3)
    assert torch.allclose(mean, torch.tensor(imagenet_stats[0])) and torch.allclose(std, torch.tensor(imagenet_stats[1]))

def test_bad_input():
    n,x = net(),torch.randn(1,3,64,64)
    with pytest.raises(EyeError, match='did you mean rise'): evidence(n, x, 'rize')
    with pytest.raises(EyeError, match='did you mean steps'): evidence(n, x, 'integrated_gradients', step=3)
    with pytest.raises(EyeError, match='did you mean layer4'): evidence(n, x, 'grad_cam', layer='layer5')
    with pytest.raises(DataError, match='NaN'): evidence(n, x*np.nan, 'grad_cam')
    with pytest.raises(DataError, match='class 3'): evidence(n, x, 'grad_cam', 3)
    with pytest.raises(ModelError, match='no gradient'): evidence(nn.Sequential(Stops()), x, 'input_gradient')
    with pytest.raises(ModelError, match='nothing to look at'): last_map(nn.Sequential(nn.Flatten(), nn.Linear(3*64*64, 2)), x)

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
