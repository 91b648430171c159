"""Random small nets whose modules make weights anew or write into memory that others share, against a plain loop over windows.

python tests/attack/nets.py [--seeds 200]: every way alone and random mixes; prints each net whose map is wrong, and how many fell
back to whole pictures. Nothing may be wrong. Some of the ways are sampled in tests/explain/test_odd_nets.py."""
import argparse, itertools, random, warnings
import torch, torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, weight_norm
from timm.layers import ScaledStdConv2d, StdConv2d
from fundus_fastai.explain import occlusion as occ
from fundus_fastai.explain.occlusion import occlusion

def standardized(w): return (w-w.mean((1,2,3), keepdim=True))/(w.std((1,2,3), keepdim=True)+1e-5)

class Made(nn.Conv2d):
    "A convolution whose weight is made from its parameter in each pass"
    def __init__(self, how, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.how = how
    def forward(self, x): return F.conv2d(x, self.how(self.weight), self.bias, 1, 1)

def old_weight_norm(c):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        return weight_norm(nn.Conv2d(c, c, 3, padding=1))

CONVS = dict(
    plain=lambda c: nn.Conv2d(c, c, 3, padding=1),
    weight_norm=lambda c: parametrizations.weight_norm(nn.Conv2d(c, c, 3, padding=1)),
    old_weight_norm=old_weight_norm,
    spectral_norm=lambda c: parametrizations.spectral_norm(nn.Conv2d(c, c, 3, padding=1)),
    orthogonal=lambda c: parametrizations.orthogonal(nn.Conv2d(c, c, 3, padding=1)),
    standardized=lambda c: Made(standardized, c, c, 3),
    scaled_std=lambda c: ScaledStdConv2d(c, c, 3, padding=1),
    std=lambda c: StdConv2d(c, c, 3, padding=1),
    signs=lambda c: Made(lambda w: w.sign()*w.abs().mean(), c, c, 3),
    rounded=lambda c: Made(lambda w: (w*8).round()/8, c, c, 3),
    cloned=lambda c: Made(lambda w: w.clone(), c, c, 3),
    data=lambda c: Made(lambda w: w.data*1.5, c, c, 3),
    halves=lambda c: Made(lambda w: torch.cat([w[:c//2],w[c//2:].flip(0)]), c, c, 3))

@torch.jit.script
def scripted(x):
    return x.mul_(1.5)

def data_set(x): x.data = x.data*2
def data_times(x): x.data *= 2
def slice_times(x): x[:,:4] *= 2
def slice_plus(x): x[:,:,::2] += 1
def row_times(x): x[:,0] *= 2
def set_slice(x): x[:,:2] = x[:,2:4]*.5
def set_mask(x): x[x<0] *= .1
def out_of(x): torch.mul(x, 2, out=x)
def kept_flat(x):
    y = x.flatten(1)
    x.mul_(2)
    x += y.mean(1)[:,None,None,None]
def flat_of_slice(x): x[:,:4].reshape(len(x), 4, -1).mul_(2) # a copy or a view, as memory lies

WRITES = dict(
    nothing=lambda x: None, slice_times=slice_times, slice_plus=slice_plus, row_times=row_times, set_slice=set_slice, set_mask=set_mask,
    chunk=lambda x: x.chunk(2, 1)[0].mul_(2), split=lambda x: x.split(2, 1)[1].add_(1), narrow=lambda x: x.narrow(1, 0, 3).mul_(2),
    view=lambda x: x.view(len(x), 2, -1, *x.shape[2:])[:,0].mul_(3), permute=lambda x: x.permute(0,2,3,1)[...,:3].mul_(2),
    transpose=lambda x: x.transpose(1,2)[:,:,:3].mul_(2), select=lambda x: x.select(1, 2).mul_(-1), unbind=lambda x: x.unbind(1)[1].add_(2),
    flatten=lambda x: x.flatten(1).mul_(2), flatten_pixels=lambda x: x.flatten(2)[:,:2].add_(1), data_times=data_times, data_set=data_set,
    data=lambda x: x.data.mul_(2), detach=lambda x: x.detach().clamp_(-1, 1), mT=lambda x: x.mT.mul_(2), clamp=lambda x: x.clamp_(-1, 1),
    relu=lambda x: F.relu(x, inplace=True), relu_positional=lambda x: F.relu(x, True), relu_chunk=lambda x: F.relu(x.chunk(2, 1)[1], inplace=True),
    relu_of_view=lambda x: F.leaky_relu_(x.view(x.shape), .1), fill=lambda x: x[:,:1].fill_(.5), zero=lambda x: x[:,2:3].zero_(),
    copy=lambda x: x[:,:2].copy_(x[:,2:4]), foreach=lambda x: torch._foreach_mul_([x], 2), out=out_of, scripted=lambda x: scripted(x),
    index_fill=lambda x: x.index_fill_(1, torch.tensor([1]), .3), masked_fill=lambda x: x.masked_fill_(x<0, -.2), kept_flat=kept_flat,
    unsqueeze=lambda x: x.unsqueeze(1).mul_(2), expand=lambda x: x.expand_as(x).mul_(2), unfold=lambda x: x.unfold(1, 4, 4)[:,0].mul_(2),
    as_strided=lambda x: x[:,:2].as_strided((len(x),), (x.stride(0),)).mul_(0), pow=lambda x: x.abs_().pow_(1.5), iadd=lambda x: x.add_(x),
    contiguous=lambda x: x.contiguous().mul_(2), pixels=lambda x: x[:,:,2:5,1:3].mul_(4), dropout=lambda x: F.dropout(x, .5, False).mul_(2),
    pool=lambda x: F.adaptive_avg_pool2d(x, x.shape[2:]).mul_(2), sigmoid=lambda x: torch.sigmoid_(x), flat_of_slice=flat_of_slice)

class Odd(nn.Module):
    "Convolutions with norms, between which memory is written into"
    def __init__(self, convs, writes, norm=True, width=8):
        super().__init__()
        self.first = nn.Conv2d(3, width, 3, padding=1)
        self.convs = nn.ModuleList(CONVS[c](width) for c in convs)
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) if norm else nn.Identity() for _ in convs)
        self.writes,self.last = writes,nn.Linear(width, 3)
        for o in self.norms:
            if norm:
                nn.init.normal_(o.running_mean, std=.2)
                nn.init.uniform_(o.running_var, .5, 2)
    def forward(self, x):
        x = self.first(x)
        for c,n,w in zip(self.convs, self.norms, itertools.cycle(self.writes)):
            y = n(c(x))
            WRITES[w](y)
            x = F.relu(y)+.1*x
        return self.last(x.mean((2,3)))

def loop(net, x, window, stride):
    "Values of all windows, one picture at a time"
    with torch.no_grad():
        base,out = net(x.clone()),[]
        for i in range(0, x.shape[2]-window+1, stride):
            for j in range(0, x.shape[3]-window+1, stride):
                z = x.clone()
                z[:,:,i:i+window,j:j+window] = 0
                out.append(base-net(z))
    return base,torch.stack(out, -1)

def wrong(net, seed, size=24, window=8, stride=8):
    "How far values are off, in units of the largest score, and whether the net fell back"
    torch.manual_seed(seed)
    x = torch.randn(1, 3, size, size)
    base,want = loop(net, x, window, stride)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter('always')
        om = occlusion(net, x, window, stride=stride, fill=0, bs=3, progress=False)
    off = max(float((om.values.flatten(2)-want).abs().max()), float((om.baseline-base).abs().max()))
    return off/float(base.abs().max()), any('cannot be computed on windows' in str(o.message) for o in said)

def odd_net(convs, writes, seed, **kwargs):
    torch.manual_seed(seed)
    return Odd(convs, writes, **kwargs).eval()

def main(seeds):
    occ.few_jobs = 0 # a few windows would be asked as whole pictures
    cases = [([c]*4, ['nothing']) for c in CONVS]+[(['plain']*3, [w]) for w in WRITES]
    dice = random.Random(0)
    cases += [(dice.choices(list(CONVS), k=dice.randint(2, 6)), dice.choices(list(WRITES), k=3)) for _ in range(seeds)]
    n,fell = 0,[]
    for seed,(convs,writes) in enumerate(cases):
        for norm in (True,False):
            off,back = wrong(odd_net(convs, writes, seed, norm=norm), seed)
            if off>1e-4: n += 1; print('WRONG', f'{off:.1e}', convs, writes, norm, flush=True)
            if back and len(set(convs))==len(writes)==1: fell.append((convs[0], writes[0], norm))
    print(f'{2*len(cases)} nets, {n} wrong; whole pictures, of the ways alone: {fell}')

if __name__=='__main__':
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--seeds', type=int, default=200)
    main(p.parse_args().seeds)
