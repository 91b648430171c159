"Nets that make weights anew, or write into memory that tensors share: the right map, or whole pictures with a word"
import random, warnings
import pytest, timm, torch
from torch import nn
from attack.nets import CONVS, WRITES, odd_net, wrong
from fundus_fastai.explain.occlusion import occlusion
from fundus_fastai.explain.windowed import Windowed

@pytest.mark.parametrize('conv', CONVS)
def test_weights_made_in_each_pass(conv):
    "Right, and on windows: such nets lose nothing"
    for norm in (True,False): assert (r := wrong(odd_net([conv]*4, ['nothing'], 1, norm=norm), 1))[0]<1e-5 and not r[1]

@pytest.mark.parametrize('write', WRITES)
def test_shared_memory_written_into(write):
    assert wrong(odd_net(['plain']*3, [write], 2), 2)[0]<1e-5

@pytest.mark.parametrize('write', ['nothing','slice_times','slice_plus','set_slice','set_mask','relu','pow','masked_fill','iadd'])
def test_plain_work_in_place_stays_on_windows(write):
    assert not wrong(odd_net(['plain']*3, [write], 2), 2)[1]

@pytest.mark.parametrize('seed', range(6))
def test_mixtures(seed):
    dice = random.Random(seed)
    net = odd_net(dice.choices(list(CONVS), k=4), dice.choices(list(WRITES), k=3), seed)
    assert wrong(net, seed)[0]<1e-4

@pytest.mark.parametrize('arch', ['nf_resnet26','nf_regnet_b0','resnetv2_50x1_bit'])
def test_nets_with_standardized_weights_stay_on_windows(arch):
    torch.manual_seed(0)
    net = timm.create_model(arch, num_classes=2)
    for o in net.modules(): # that layers count, and the answer
        if hasattr(o, 'reset_parameters'): o.reset_parameters()
    with warnings.catch_warnings():
        warnings.filterwarnings('error', message='.*cannot be computed on windows')
        om = occlusion(net, torch.randn(1,3,48,48), 24, stride=24, fill=0, progress=False)
    assert om.values.abs().max()>0

class Sometimes(nn.Module):
    "Cannot take windows from the third batch on; before that, wrong ones in silence where `lies`"
    def __init__(self, lies): super().__init__(); self.lies,self.n,self.c = lies,0,nn.Conv2d(1, 3, 3)
    def forward(self, x):
        if type(x) is not torch.Tensor:
            self.n += 1
            if self.n>2 and not self.lies: raise TypeError('no more')
            if self.lies: return self.c(x).mean((2,3))+1e-3
        return self.c(x).mean((2,3))

@pytest.mark.parametrize('lies', [False,True])
def test_all_windows_are_done_again(lies):
    torch.manual_seed(3)
    net,x = Sometimes(lies).eval(),torch.randn(2,1,20,20)
    with pytest.warns(UserWarning, match='no more' if not lies else 'differs by'):
        om = occlusion(net, x, 5, stride=3, bs=4, progress=False)
    with torch.no_grad():
        whole = net(x)
        z = x.clone()
        z[:,:,3:8,6:11] = x.mean((1,2,3))[:,None,None,None]
        assert torch.allclose(om.baseline, whole, atol=1e-6)
        assert torch.allclose(om.values[:,:,1,2], whole-net(z), atol=1e-6)

def test_a_net_that_asks_for_norms_stays_on_windows():
    "ConvNeXt V2 calls `x.norm`: nothing of our own may hide what a tensor can do"
    torch.manual_seed(0)
    net = timm.create_model('convnextv2_atto', num_classes=2).eval()
    for o in net.modules():
        if hasattr(o, 'wb_shape'): nn.init.normal_(o.weight); nn.init.normal_(o.bias)
    x = torch.randn(1,3,64,64)
    with warnings.catch_warnings():
        warnings.filterwarnings('error', message='.*cannot be computed on windows')
        om = occlusion(net, x, 16, stride=16, fill=0, progress=False)
    z = x.clone()
    z[...,16:32,32:48] = 0
    with torch.no_grad(): assert torch.allclose(om.values[0,:,1,2], (net(x)-net(z))[0], atol=1e-4*float(net(x).abs().max()))
    w = Windowed(x, x[:,:,:8,:8], [0], [0])
    assert not [o for o in vars(w) if hasattr(torch.Tensor, o)]
