"""Teach the net of anatomy.lesion_net anew.

FUNDUS_TEST_DATA=DIR python tests/benchmarks/teach_lesions.py pack DATA.zip
python tests/benchmarks/teach_lesions.py teach DATA.zip OUT SECONDS [--device cuda --start FILE --rate 3e-3 --painters 3 --later]
python tests/benchmarks/teach_lesions.py more DATA.zip OUT SECONDS [--start FILE --rate 7e-4 --seed 0]
python tests/benchmarks/teach_lesions.py judge DATA.zip shipped FILE... [--pictures 96]

`pack` (three minutes of one core) gathers photographs, recompressed to 13 MB: idrid's with a grade, HRF's healthy ones, DRIVE's, and of odir5k by lot
210 `normal fundus`, 90 with one other finding and no retinopathy (drusen, dry AMD, glaucoma, epiretinal membrane, ...), 110 with retinopathy;
list.csv tells grade, disc (`landmarks`), and which serve as grounds: no lesion by their label, of idrid only even numbers. No mask, box or count of a
real lesion is in it.

`teach` wants a card. Four processes (--painters and one) paint lesions, and what is none, on empty layers (paint_lesions.py) and draw phantoms; the card lays layers over
grounds, each turned and scaled anew, and photographs them again: haze, light, color, blur, noise, compression. First stage (.62 of the time): these
pictures and phantoms, with vessels (as the net that ships says) and discs as further outputs. Second stage: besides, photographs with retinopathy by their
grade (idrid's even half) or keyword (odir5k), labeled by the moving mean of the net itself where it is sure; grade 0 has no lesion, grade 1 dots alone.
Chosen is the stage that is better by the sum of two figures: mean sensitivity (CPM) on 96 painted pictures whose eyes and layers were left out, and
the AUC for referable retinopathy of the sum of scores in idrid's odd half. OUT: first, second and last.safetensors, choice.json, loss.csv, held.jpg,
sums of idrid's odd half; with --later no figure is asked on the card, and `judge` chooses. `more` teaches the net that ships on, by the second stage's pictures, on one core of a CPU (about four seconds of processor
time for six pictures); it writes more.safetensors every minute and goes on where it was stopped. `judge` prints the figures of choice for files of weights,
on pictures painted for it (A+B+C: the mean of their weights, as the file that ships is: of the first and two taught on, and of that mean and two taught on from it; CARD.md). All by the clock: a faster card sees more, and a new training gives other weights. `--small` tries the program on a CPU."""
import argparse, copy, io, json, math, os, sys, time, zipfile
for k in ('OMP_NUM_THREADS','OPENBLAS_NUM_THREADS','MKL_NUM_THREADS'): os.environ.setdefault(k, '1')
from multiprocessing import TimeoutError as MP_TIMEOUT, get_context
from pathlib import Path
import cv2, numpy as np, pandas as pd, torch, torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn
import paint_lesions
from fundus_fastai.anatomy.landmarks import landmarks, shipped_weights
from fundus_fastai.anatomy.lesion_net import FINE, SIDE, LesionFrame, LesionNet, blend_looks, find_lesions, spots
from fundus_fastai.explain.lesions import froc, match_lesions
from fundus_fastai.phantom.fundus import LESION_CODES, phantom_fundus

TYPES,SEED,FLIPS = tuple(LESION_CODES),3,([],[3],[2],[2,3])
ODIR = [('odir_normal',('normal fundus',),210,0), # set, keywords of which one is the eye's only one, images, grade
        ('odir_other',('drusen','dry age-related macular degeneration','glaucoma','epiretinal membrane','macular epiretinal membrane',
                       'myelinated nerve fibers','lens dust，normal fundus','normal fundus，lens dust','vitreous degeneration','tessellated fundus'),90,0),
        ('odir_ill',('moderate non proliferative retinopathy','severe nonproliferative retinopathy'),110,2)]
cv2.setNumThreads(1)

# ---- what four processes do: frames, layers, phantoms

DATA = None
def read(name):
    with zipfile.ZipFile(DATA) as z: b = z.read(name)
    return np.ascontiguousarray(cv2.imdecode(np.frombuffer(b, np.uint8), 1)[...,::-1])

def frame(r):
    "A photograph's square, its mask and its disc there"
    f = LesionFrame(read(r['name']))
    if f.field.fit==0 or f.mask.mean()<.4: return None
    disc = np.array([(r['x']-f.x)/f.k[0], (r['y']-f.y)/f.k[1], r['r']/f.k[0]], np.float32)
    return np.ascontiguousarray(f.image.transpose(2,0,1)),f.mask,disc

def layer(i):
    c = paint_lesions.layer(np.random.default_rng([SEED,*np.atleast_1d(i)]), SIDE)
    return 'layer',np.ascontiguousarray(c.im.transpose(2,0,1)).astype(np.float16),c.bits

def phantom(i):
    rng = np.random.default_rng([SEED,i])
    ill = bool(i%4)
    o = phantom_fundus(['diabetic retinopathy'] if ill else None, SEED, i+1, eye='RL'[i//5%2], grade=int(rng.choice([1,2,3,4])) if ill else None, size=SIDE)
    bits = np.zeros((SIDE,SIDE), np.uint8)
    for b,k in zip((1,2,4,8), LESION_CODES.values()):
        if k in o.masks: bits |= o.masks[k].astype(np.uint8)*np.uint8(b)
    bits |= ((o.vessels['artery']>0)|(o.vessels['vein']>0)).astype(np.uint8)*np.uint8(16)
    x0,y0,x1,y1 = o.disc
    return 'phantom',np.ascontiguousarray(o.image.transpose(2,0,1)),o.field>0,bits,np.array([(x0+x1)/2, (y0+y1)/2, (y1-y0)/2], np.float32)

def work(i):
    try: return phantom(i) if i%6==5 else layer(i)
    except Exception as e: return 'failed',f'{i}: {e!r}' # told in the log
def shipped(im): return find_lesions(im)
def begin(data):
    global DATA
    DATA = data
    torch.set_num_threads(1)

# ---- on the card

def spread(x, n):
    "The greatest within squares of `n` (odd) pixels round each of [B,C,H,W]"
    if x.device.type!='cpu': return F.max_pool2d(x, n, 1, n//2)
    out = np.empty(x.shape, np.float32) # OpenCV is many times faster there
    for o,a in zip(out.reshape(-1, *x.shape[2:]), x.contiguous().float().numpy().reshape(-1, *x.shape[2:])): cv2.dilate(a, np.ones((n,n), np.uint8), o)
    return torch.from_numpy(out)

def kernel(s, n):
    t = torch.arange(-n, n+1, device=s.device, dtype=torch.float32)
    k = torch.exp(-.5*(t/s[:,None].clamp(min=.05))**2)
    return k/k.sum(1, keepdim=True)

def blur(x, s, n=None):
    "Gaussian of sigma s (a number, or one a picture [B]) of [B,C,H,W]"
    b,c,h,w = x.shape
    if x.device.type=='cpu': # OpenCV is many times faster there
        out,s = np.empty(x.shape, np.float32),np.broadcast_to(np.asarray(s, np.float32), b)
        for o,a,k in zip(out, x.float().numpy(), s):
            for p,q in zip(o, a): p[:] = cv2.GaussianBlur(q, (0,0), max(.05, float(k)), borderType=cv2.BORDER_REFLECT_101)
        return torch.from_numpy(out)
    s = torch.as_tensor(s, device=x.device, dtype=torch.float32).expand(b)
    n = n or max(1, math.ceil(3*float(s.max())))
    k = kernel(s, n).repeat_interleave(c, 0)
    x = F.pad(x, (n,n,n,n), mode='reflect').reshape(1, b*c, h+2*n, w+2*n)
    x = F.conv2d(F.conv2d(x, k[:,None,None,:], groups=b*c), k[:,None,:,None], groups=b*c)
    return x.reshape(b, c, h, w)

def color_contrast(im, mask, s=28):
    "As anatomy.lesion_net.color_contrast, for a batch: im [B,3,H,W] 0-255, mask [B,1,H,W]"
    a = torch.log(im+12)
    m = F.avg_pool2d(mask, 4)
    low = blur(F.avg_pool2d(a*mask, 4), s/4, 28)/blur(m, s/4, 28).clamp(min=1e-3)
    a = (a-F.interpolate(low, a.shape[-2:], mode='bilinear', align_corners=False))*mask
    v = torch.where(mask[...,::4,::4]>0, a[...,::4,::4], torch.nan).flatten(2)
    q = torch.nanquantile(v, torch.tensor([.16,.84], device=a.device), dim=2)
    d = torch.nan_to_num(((q[1]-q[0])/2), nan=1.).clamp(min=.01)
    return (a/d[...,None,None]).clamp(-8, 8)

_i = np.arange(8)
DCT = (np.cos((2*_i[None]+1)*_i[:,None]*np.pi/16)*np.where(_i[:,None]==0, 8**-.5, .5)).astype(np.float32)
LUMA = np.array([16,11,10,16,24,40,51,61,12,12,14,19,26,58,60,55,14,13,16,24,40,57,69,56,14,17,22,29,51,87,80,62,18,22,37,56,68,109,103,77,
                 24,35,55,64,81,104,113,92,49,64,78,87,103,121,120,101,72,92,95,98,112,100,103,99], np.float32).reshape(8,8)
CHROMA = np.full((8,8), 99, np.float32)
CHROMA[:4,:4] = [[17,18,24,47],[18,21,26,66],[24,26,56,99],[47,66,99,99]]

def blocks(x, table, q):
    "One channel [B,H,W], its 8 x 8 blocks rounded as a camera's compression of quality q [B] does"
    b,h,w = x.shape
    D,t = (torch.as_tensor(o, device=x.device) for o in (DCT,table))
    k = torch.where(q<50, 5000/q, 200-2*q)/100
    t = (t*k[:,None,None]).round().clamp(min=1)[:,None,None]
    y = x.reshape(b, h//8, 8, w//8, 8).transpose(2, 3)-128
    y = torch.round(D@y@D.T/t)*t
    return (D.T@y@D+128).transpose(2, 3).reshape(b, h, w)

def compressed(x, q):
    r,g,b = x.unbind(1)
    y,cb,cr = .299*r+.587*g+.114*b,128-.1687*r-.3313*g+.5*b,128+.5*r-.4187*g-.0813*b
    def chroma(o):
        o = blocks(F.avg_pool2d(o[:,None], 2)[:,0], CHROMA, q)
        return F.interpolate(o[:,None], scale_factor=2, mode='bilinear', align_corners=False)[:,0]-128
    y,cb,cr = blocks(y, LUMA, q),chroma(cb),chroma(cr)
    return torch.stack([y+1.402*cr, y-.34414*cb-.71414*cr, y+1.772*cb], 1)

class Bench:
    "Draws parameters on the host, one sequence a seed, and pictures on the card"
    def __init__(self, device, seed):
        self.device,self.rng = device,np.random.default_rng(seed)
        self.gen = torch.Generator(device).manual_seed(seed)
    def u(self, n, low, high, shape=(1,1,1)): return torch.as_tensor(self.rng.uniform(low, high, n), dtype=torch.float32, device=self.device).view(-1, *shape)
    def yes(self, n, p): return torch.as_tensor(self.rng.random(n)<p, device=self.device).view(-1, 1, 1, 1)
    def rand(self, *shape): return torch.rand(shape, device=self.device, generator=self.gen)
    def randn(self, *shape): return torch.randn(shape, device=self.device, generator=self.gen)

    def turns(self, n, low, high, shift):
        "Random similarities: a grid for pictures, and the matrices [n,2,3] of it (from the new place to the old, -1 to 1)"
        t,k = self.rng.uniform(0, 2*np.pi, n),1/np.exp(self.rng.uniform(np.log(low), np.log(high), n))
        f = np.where(self.rng.random(n)<.5, -1, 1)
        m = np.stack([np.stack([k*f*np.cos(t), -k*np.sin(t)], 1), np.stack([k*f*np.sin(t), k*np.cos(t)], 1)], 1)
        m = np.concatenate([m, self.rng.uniform(-shift, shift, (n,2,1))], 2)
        return F.affine_grid(torch.as_tensor(m, dtype=torch.float32, device=self.device), (n,1,SIDE,SIDE), align_corners=False),m

    def degrade(self, a, mask):
        "The picture [B,3,H,W] 0-255 photographed again"
        n = len(a)
        big = lambda o: F.interpolate(o, (SIDE,SIDE), mode='bicubic', align_corners=False)
        v = self.u(n,.1,.5)*big(self.rand(n,1,6,6)).clamp(0,1)*self.yes(n,.25)
        haze = torch.as_tensor([170.,120,80], device=self.device).view(1,3,1,1)*self.u(n,.6,1.2)
        a = a*(1-v)+v*haze
        a = torch.where(self.yes(n,.5), a*big(.6+.65*self.rand(n,3,3,3)).clamp(min=.3), a)
        m = (a*mask)[...,::4,::4].sum((2,3), keepdim=True)/mask[...,::4,::4].sum((2,3), keepdim=True).clamp(min=1)+1
        want = torch.cat([self.u(n,110,235), self.u(n,45,130), self.u(n,8,90)], 1)
        a = a.clamp(min=0)*(want/m)**self.u(n,.3,1)
        a = 255*(a/255).clamp(0,1.2)**torch.exp(self.u(n,-.3,.3))
        a = torch.where(self.yes(n,.5), blur(a, self.u(n,.3,1.1)[:,0,0,0], 4), a)
        if self.rng.random()<.25: # the whole batch smaller once
            k = int(SIDE/self.rng.uniform(1.05,1.6))
            small = F.interpolate(F.interpolate(a, (k,k), mode='bilinear', antialias=True, align_corners=False), (SIDE,SIDE), mode='bicubic', align_corners=False)
            a = torch.where(self.yes(n,.6), small, a)
        a = torch.where(self.yes(n,.2), a+self.u(n,.3,1.3)*(a-blur(a, self.u(n,1,2.5)[:,0,0,0], 8)), a)
        e = self.randn(*a.shape)
        e = torch.where(self.yes(n,.4), blur(e, .8, 3)*2, e)
        a = (a+e*self.u(n,0,3)*torch.as_tensor([1.,1,1.5], device=self.device).view(1,3,1,1)).clamp(0,255)*mask
        if self.rng.random()<.7: a = torch.where(self.yes(n,.8), compressed(a, self.u(n,60,97)[:,0,0,0]), a)
        return a.clamp(0,255).round()*mask

def unpack(bits): return torch.stack([(bits>>k)&1 for k in range(4)], 1).float()

def discs(xyr, device):
    "Where discs are [n,1,H,W], and whether that is known"
    y,x = torch.meshgrid(*(torch.arange(SIDE, device=device, dtype=torch.float32),)*2, indexing='ij')
    known = torch.isfinite(xyr).all(1)
    o = torch.nan_to_num(xyr)[:,:,None,None]
    return (((x-o[:,0])**2+(y-o[:,1])**2).sqrt()<o[:,2])[:,None].float(),known.view(-1,1,1,1)

class Bank:
    "Things of one kind on the card, a ring"
    def __init__(self, size): self.size,self.items,self.at = size,None,0
    def add(self, *parts):
        if self.items is None: self.items = [torch.zeros((self.size,*p.shape), dtype=p.dtype, device=self.device) for p in parts]
        for a,p in zip(self.items, parts): a[self.at%self.size].copy_(p)
        self.at += 1
    def __len__(self): return min(self.at, self.size)

def seen(q, y, mask):
    "Targets [B,4] of painted lesions at the full side, and where nothing is asked: those that cannot be seen"
    d = blur(q[:,1:2], 1.2, 4)-blur(q[:,1:2], 5., 15)
    dark,bright = ((spread(s*d, 9)>=.8).float() for s in (-1,1))
    there = torch.cat([dark,dark,bright,bright], 1)
    gone = spread((y*(1-there)).amax(1, keepdim=True), 5)
    return y*there,gone

class Teacher:
    "Everything that a lot needs"
    def __init__(self, s, grounds, device):
        self.s,self.g,self.device = s,grounds,device
        self.layers,self.phantoms = Bank(s.bank),Bank(s.bank//6+2)
        for o in (self.layers,self.phantoms): o.device = device
    def fill(self, results, most=6, wait=0.):
        for _ in range(most):
            try: kind,*parts = results.next(timeout=wait or 1e-4)
            except (StopIteration,TimeoutError,MP_TIMEOUT): return
            if kind=='failed': print(kind, *parts, flush=True)
            else: (self.layers if kind=='layer' else self.phantoms).add(*(torch.from_numpy(np.asarray(p)) for p in parts))

    def from_eyes(self, b, ids, teacher=None):
        "Photographs `ids` with what was painted: picture, mask, targets [n,6] at half the side, weights likewise"
        n,g = len(ids),self.g
        j = torch.as_tensor(ids, device=self.device)
        grid,m = b.turns(n, .85, 1.2, .06)
        im = F.grid_sample(g['image'][j].float(), grid, mode='bicubic', padding_mode='zeros', align_corners=False).clamp(0,255)
        disc,known = discs(g['disc'][j], self.device)
        other = F.grid_sample(torch.cat([g['mask'][j][:,None].float(), disc, g['vessel'][j][:,None].float()/255], 1), grid, align_corners=False)
        mask,disc,vessel = (other[:,:1]>.99).float(),(other[:,1:2]>.5).float(),other[:,2:]
        none = torch.zeros(n,4,SIDE//2,SIDE//2, device=self.device)
        real,doubt = none,none
        if teacher is not None:
            q = color_contrast(im, mask)
            with torch.autocast(self.device, torch.bfloat16), torch.no_grad():
                p = (teacher(q).float().sigmoid()+teacher(q.flip(3)).float().sigmoid().flip(3))[:,:4]/2
            ill = g['ill'][j].view(-1,4,1,1)
            real = (p>.6).float()*ill
            doubt = ((p>.05)&(p<=.6)).float()*ill
            doubt = (spread(torch.maximum(doubt,real), 3)-real)*ill
        depth,bits = torch.zeros(n,4,SIDE,SIDE, device=self.device),torch.zeros(n,4,SIDE,SIDE, device=self.device)
        for p in (.88,.3): # one layer, at times two
            use = b.yes(n, p).float()
            k = torch.as_tensor(b.rng.integers(0, len(self.layers), n), device=self.device)
            grid,_ = b.turns(n, .75, 1.3, .15)
            d,t = self.layers.items
            depth = depth+use*F.grid_sample(d[k].float(), grid, align_corners=False)
            bits = torch.maximum(bits, use*(F.grid_sample(unpack(t[k]), grid, align_corners=False)>.5).float())
        near = spread(disc[...,::2,::2], 23)
        near = F.interpolate(near, scale_factor=2)
        depth,bits = depth*(1-near*(bits[:,2:].amax(1, keepdim=True))),torch.cat([bits[:,:2], bits[:,2:]*(1-near)], 1)
        strong = torch.exp(b.u(n,-.25,.3))
        im = (im*torch.exp(depth[:,:3]*strong)+torch.cat([torch.zeros_like(im[:,:2]), depth[:,3:]], 1)).clamp(0,255)
        im = b.degrade(im, mask)
        q = color_contrast(im, mask)
        y,gone = seen(q, bits*mask, mask)
        onto = bits[:,:1]*(vessel>.4).float() # a dot on a vessel is not seen
        gone = torch.maximum(gone, spread(onto, 5))
        y = F.max_pool2d(y, 2)
        w = F.max_pool2d(mask, 2)*(1-F.max_pool2d(gone, 2)*(1-y))
        w = w.expand(-1,4,-1,-1)*(1-doubt*(1-y))
        y = torch.maximum(y, real*w)
        more = torch.cat([F.avg_pool2d(vessel, 2)>.5, F.avg_pool2d(disc, 2)>.5], 1).float()
        ok = F.max_pool2d(mask, 2)
        return im,q,torch.cat([y,more], 1),torch.cat([w, ok, ok*known], 1),bits*mask,gone,mask

    def from_phantoms(self, b, n):
        k = torch.as_tensor(b.rng.integers(0, len(self.phantoms), n), device=self.device)
        im,mask,bits,xyr = (o[k] for o in self.phantoms.items)
        disc,_ = discs(xyr, self.device)
        grid,_ = b.turns(n, .85, 1.2, .06)
        im = F.grid_sample(im.float(), grid, mode='bicubic', align_corners=False).clamp(0,255)
        o = F.grid_sample(torch.cat([mask[:,None].float(), disc, ((bits>>4)&1)[:,None].float(), unpack(bits)], 1), grid, align_corners=False)
        mask = (o[:,:1]>.99).float()
        im = b.degrade(im, mask)
        q = color_contrast(im, mask)
        y,gone = seen(q, (o[:,3:]>.4).float()*mask, mask)
        y = F.max_pool2d(y, 2)
        ok = F.max_pool2d(mask, 2)
        w = (ok*(1-F.max_pool2d(gone, 2)*(1-y))).expand(-1,4,-1,-1)
        return q,torch.cat([y, F.avg_pool2d(o[:,2:3], 2)>.5, F.avg_pool2d(o[:,1:2], 2)>.5], 1),torch.cat([w,ok,ok], 1)

def may_have(grade):
    "Which of the four types an eye of this grade may have [n,4]: none has none, a mild one dots alone"
    return ((grade[:,None]>1)|((grade[:,None]==1)&np.array([True,True,False,False]))).astype(np.float32)

POS = (3.,2.,2.,2.,1.,1.)
def loss_of(logit, y, w, pos):
    l = F.binary_cross_entropy_with_logits(logit, y, pos_weight=pos, reduction='none')*w
    p = logit.sigmoid()*w
    each = l.sum((0,2,3))/w.sum((0,2,3)).clamp(min=1)
    part = (y*w)[:,:4].sum((0,2,3))
    dice = 1-(2*(p*y)[:,:4].sum((0,2,3))+20)/(p[:,:4].sum((0,2,3))+part+20)
    return (each[:4]*25).sum()+each[4:].sum()+.3*dice.sum()

def learn_from(net, opt, q, y, w, pos, device):
    "One step on pictures `q`, their maps `y` and weights `w`; the loss before it"
    net.train()
    with torch.autocast(device, torch.bfloat16): logit = net(q.contiguous(memory_format=torch.channels_last))
    loss = loss_of(logit.float(), y, w, pos)
    opt.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(net.parameters(), 5.)
    opt.step()
    return loss

@torch.no_grad()
def vessel_maps(net, im, mask):
    "What a net for lesions says of vessels, 0-255 uint8 [n,H,W]"
    q = color_contrast(im.float(), mask[:,None].float())
    with torch.autocast(q.device.type, torch.bfloat16): v = net(q)[:,4:5].float().sigmoid()
    return (255*F.interpolate(v, (SIDE,SIDE), mode='bilinear', align_corners=False)[:,0]).byte()

# ---- figures of choice

def peaks(prob, mask):
    "What find_lesions would list of maps [4,h,w]"
    d = pd.concat([spots(m, mask, 200).assign(type=k) for k,m in zip(TYPES, prob)]).sort_values('score', ascending=False, kind='stable', ignore_index=True)
    d.attrs['shape'] = (SIDE,SIDE)
    return d

def ask(net, q, device, lot=16, flips=([],)):
    out = []
    for i in range(0, len(q), lot):
        with torch.no_grad(), torch.autocast(device, torch.bfloat16):
            each = [net(q[i:i+lot].flip(d))[:,:4].float().flip(d) for d in flips]
        out.append(torch.stack(each).mean(0).sigmoid())
    return torch.cat(out)

def as_library(net, q, fine, device, lot=8):
    "As `lesion_maps` reads, for batches of contrasts of both sizes"
    out = []
    for i in range(0, len(q), lot):
        with torch.no_grad(), torch.autocast(device, torch.bfloat16):
            a = torch.stack([net(q[i:i+lot].flip(d)).float().flip(d) for d in FLIPS[:2]]).mean(0)
            b = net(fine[i:i+lot].flip(3)).float().flip(3)
        out.append(blend_looks(a, b))
    return torch.cat(out)

def image_sums(p, mask):
    "Sums of the 60 highest peaks by type [n,4]"
    p = blur(p, .7, 3)*mask[...,::2,::2]
    top = (p==spread(p, 7))&(p>.01)
    return (p*top).flatten(2).topk(60).values.sum(2).cpu().numpy()

def auc(y, s):
    r = pd.Series(s).rank().to_numpy()
    return float((r[y].sum()-y.sum()*(y.sum()+1)/2)/(y.sum()*(~y).sum()))

def bounds(y, s, n=1000):
    rng,each = np.random.default_rng(0),[]
    for _ in range(n):
        i = rng.integers(0, len(y), len(y))
        if 0<y[i].sum()<len(i): each.append(auc(y[i], s[i]))
    return [float(o) for o in np.quantile(each, [.025,.975])] if each else None

def table(hits):
    "Sensitivities by type, and the score with one false alarm a picture"
    res = {k:{c:round(float(getattr(v,'value',v)), 4) for c,v in r.items()} for k,r in froc(hits, n_boot=20).iterrows()}
    for k in res: res[k]['cut'] = float(np.r_[hits.search(k).alarms, np.zeros(len(hits)+1)][len(hits)])
    return res

def halves(df):
    "Of the list: grounds to teach with and those left out, each with chances; ill eyes that teach, with chances; idrid's odd half"
    own = df.ground.to_numpy()
    held = own&(np.cumsum(own)%8==0)
    share = dict(idrid=.52, hrf_av=.13, drive=.08, odir_normal=.17, odir_other=.1)
    kinds = df['set'].to_numpy()
    def pick(where):
        n = pd.Series(kinds[where]).value_counts()
        c = np.array([share.get(k,0)/n[k] for k in kinds[where]])
        return np.flatnonzero(where),c/c.sum()
    even = (kinds=='idrid')&(df.id%2==0).to_numpy()
    weak = np.flatnonzero((even|(kinds=='odir_ill'))&~held)
    weak_p = np.where(even[weak], 1., .35)*np.where(df.grade.to_numpy()[weak]>0, 1., .4)
    odd = np.flatnonzero((kinds=='idrid')&(df.id%2==1).to_numpy())
    return pick(own&~held),pick(held),(weak,weak_p/weak_p.sum()),odd

def clear(d, gone):
    "Candidates without those where nothing is asked"
    d = d.drop(index=d.index[gone[d.y.round().astype(int).clip(0,SIDE-1), d.x.round().astype(int).clip(0,SIDE-1)]]).reset_index(drop=True)
    d.attrs['shape'] = (SIDE,SIDE)
    return d

class Held:
    "What chooses: painted pictures of eyes and layers left out (a `Teacher` with `ids` to draw from), and idrid's odd half"
    def __init__(self, out, pick, n, lot=8):
        b = Bench(out.device, 99)
        lots = [out.from_eyes(b, b.rng.choice(pick[0], lot, p=pick[1])) for _ in range(n//lot)]
        im,self.q,bits,gone,mask = (torch.cat([o[i] for o in lots]) for i in (0,1,4,5,6))
        self.im = im.byte().permute(0,2,3,1).contiguous().cpu().numpy()
        large = [F.interpolate(o.float(), (FINE,FINE), mode='bicubic').clamp(0, 255) for o in im.split(8)]
        inside = [F.interpolate(o.float(), (FINE,FINE), mode='nearest-exact') for o in mask.split(8)]
        self.fine = torch.cat([color_contrast(a, b, 28*FINE/SIDE) for a,b in zip(large, inside)])
        self.gone,self.mask = (o[:,0].bool().cpu().numpy() for o in (gone,mask))
        self.truths = [{k:o[i]&~g for i,k in enumerate(TYPES)} for o,g in zip(bits.bool().cpu().numpy(), self.gone)]
    def real(self, images, masks, grade):
        "Photographs with a grade; here the AUC for referable retinopathy is asked"
        self.odd_mask,self.odd_y = masks[:,None].float(),grade>=2
        self.odd_q = torch.cat([color_contrast(images[i:i+16].float(), self.odd_mask[i:i+16]) for i in range(0, len(images), 16)])
        return self
    def told(self, each):
        "Sensitivities of candidates, and their mean"
        res = table(match_lesions([clear(o, g) for o,g in zip(each, self.gone)], self.truths, types=TYPES))
        return res|dict(CPM=float(np.nanmean([res[k]['CPM'] for k in TYPES])))
    def figures(self, net):
        "By painted pictures, read once, with the mirror image, in four, and as the library does; by grades; the sums of the latter"
        net.eval()
        to = self.q.device.type
        maps = dict(plain=FLIPS[:1], mirror=FLIPS[:2], flips=FLIPS)
        maps = {k:ask(net, self.q, to, flips=f).cpu().numpy() for k,f in maps.items()}
        maps['library'] = as_library(net, self.q, self.fine, to).cpu().numpy()
        res = {k:self.told([peaks(o, m) for o,m in zip(v, self.mask)]) for k,v in maps.items()}
        sums = image_sums(ask(net, self.odd_q, to), self.odd_mask)
        each,total = {k:auc(self.odd_y, sums[:,i]) for i,k in enumerate(TYPES)},sums.sum(1)
        return dict(painted=res, referable=auc(self.odd_y, total), interval=bounds(self.odd_y, total), referable_by_type=each),sums

def teach(s):
    start = time.time()
    def now(): return time.time()-start
    def say(*o): print(f'{now():6.1f} s', *o, flush=True)
    s.out.mkdir(parents=True, exist_ok=True)
    s.bank,s.lot,s.phantoms,s.ill,s.held = (12,2,1,1,4) if s.small else (900,20,4,10,96)
    pool,other = (get_context('fork').Pool(n if not s.small else 1, begin, (s.data,)) for n in (s.painters,s.painters if s.later else 1))
    with zipfile.ZipFile(s.data) as z: df = pd.read_csv(io.BytesIO(z.read('list.csv')))
    if s.small: df = df.groupby(['set',df.grade>1], group_keys=False).head(3).reset_index(drop=True)
    rows = df.to_dict('records')
    waiting = other.map_async(frame, rows, chunksize=4)
    results = pool.imap_unordered(work, range(200_000 if not s.small else 400))
    device = s.device
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False # blurs and compression need all digits; the net computes in bfloat16
    torch.manual_seed(0)
    net = LesionNet()
    nn.init.constant_(net.out.bias, -4.) # most pixels are nothing
    if s.start: net.load_state_dict(weights_of(s.start))
    net = net.to(device, memory_format=torch.channels_last)
    say(f'{sum(o.numel() for o in net.parameters()):,} weights', device)
    got = waiting.get(150)
    df = df.assign(there=[o is not None for o in got])
    got = [o for o in got if o is not None]
    df = df[df.there].reset_index(drop=True)
    g = dict(image=torch.stack([torch.from_numpy(o[0]) for o in got]).to(device), mask=torch.stack([torch.from_numpy(o[1]) for o in got]).to(device),
             disc=torch.stack([torch.from_numpy(o[2]) for o in got]).to(device), ill=torch.as_tensor(may_have(df.grade.to_numpy()), device=device))
    say(f'{len(df)} photographs', df.groupby('set').ground.agg(['size','sum']).to_dict())
    shown = LesionNet().to(device, memory_format=torch.channels_last).eval()
    shown.load_state_dict(shipped_weights('lesions'))
    g['vessel'] = torch.cat([vessel_maps(shown, g['image'][i:i+16], g['mask'][i:i+16]) for i in range(0, len(df), 16)])
    say('vessels')
    train,left,weak,odd = halves(df)
    weak,weak_p = weak
    t = Teacher(s, g, device)
    def wait_for(o, layers, phantoms=0):
        while len(o.layers)<layers or len(o.phantoms)<phantoms:
            o.fill(results, 1, wait=20)
            if now()>.5*s.seconds: raise SystemExit('the painters are too slow')
    if not s.later: # what is left out: eyes and layers
        out = Teacher(s, g, device)
        wait_for(out, 96 if not s.small else 3)
        held = Held(out, left, s.held, 8 if not s.small else 2).real(g['image'][odd], g['mask'][odd], df.grade.to_numpy()[odd])
        del out
        say(f'left out: {len(held.q)} painted pictures, {len(odd)} of idrid, {held.odd_y.sum()} referable')
        known = other.map_async(shipped, list(held.im), chunksize=2)
    wait_for(t, 120 if not s.small else 4, 1 if s.small else 8)
    say(f'{len(t.layers)} layers, {len(t.phantoms)} phantoms')
    ema,pos = copy.deepcopy(net).eval(),torch.tensor(POS, device=device).view(-1,1,1)
    b,steps,losses,log = Bench(device, 1),0,[],[]
    begun,end = now(),s.seconds-(5 if s.later else min(45, .12*s.seconds) if not s.small else 12)
    share1 = .62
    def save(net, name):
        w = {k:v.half() if v.is_floating_point() else v for k,v in net.state_dict().items()}
        save_file({k:v.contiguous().cpu() for k,v in w.items()}, s.out/f'{name}~.safetensors')
        os.replace(s.out/f'{name}~.safetensors', s.out/f'{name}.safetensors')
    report,saved = {},now()
    def note(name, net):
        save(net, name)
        if s.later: return say(name, f'{steps} lots')
        f,sums = held.figures(net)
        report[name] = dict(f, steps=steps, seconds=now())
        pd.DataFrame(dict(id=df.id[odd], grade=df.grade[odd], **{k:sums[:,i] for i,k in enumerate(TYPES)})).to_csv(s.out/f'idrid_odd_{name}.csv', index=False)
        (s.out/'choice~').write_text(json.dumps(report, indent=1))
        os.replace(s.out/'choice~', s.out/'choice.json')
        say(name, {k:v for k,v in f.items() if k!='painted'}, {k:round(v['CPM'],4) for k,v in f['painted'].items()}, {k:v['10 FP'] for k,v in f['painted']['plain'].items() if k!='CPM'})
    for stage,top in enumerate((s.rate,s.rate/3)):
        first,last = now(),begun+share1*(end-begun)
        if stage: last = end if s.later else max(first+1, min(end, s.seconds-1.5*(first-last)-12)) # time for the figures, by what those of the first stage took
        opt = torch.optim.AdamW(net.parameters(), lr=top, weight_decay=1e-2)
        teacher = copy.deepcopy(ema).eval() if stage else None
        while (x := (now()-first)/(last-first))<1:
            for o in opt.param_groups: o['lr'] = top*(min(1, (x+.005)/.06) if x<.06 else .5*(1+math.cos(math.pi*(x-.06)/.94)))+1e-6
            n = s.lot+(0 if stage else s.ill)
            with torch.no_grad():
                parts = [t.from_eyes(b, b.rng.choice(train[0], n, p=train[1]))[1:4], t.from_phantoms(b, s.phantoms)]
                if stage: parts.append(t.from_eyes(b, b.rng.choice(weak, s.ill, p=weak_p), teacher)[1:4])
                q,y,w = (torch.cat(o) for o in zip(*parts))
            loss = learn_from(net, opt, q, y, w, pos, device)
            steps += 1
            with torch.no_grad():
                r = min(.995, 1-1/(steps+1))
                for a,c in zip(ema.state_dict().values(), net.state_dict().values()):
                    if a.is_floating_point(): a.lerp_(c, 1-r)
                if stage and steps%25==0: # the teacher follows slowly
                    for a,c in zip(teacher.state_dict().values(), ema.state_dict().values()):
                        if a.is_floating_point(): a.lerp_(c, .3)
            losses.append(loss.detach())
            t.fill(results, 8)
            if steps%50==0 or (s.small and steps%4==0):
                v = torch.stack(losses).mean().item()
                losses.clear()
                log.append((now(), steps, stage, v))
                if steps%200==0 or s.small: say(f'stage {stage+1}, {steps} lots, loss {v:.4f}, {t.layers.at} layers, {t.phantoms.at} phantoms')
            if now()-saved>60:
                save(ema, 'last')
                saved = now()
        note(('first','second')[stage], ema)
    pd.DataFrame(log, columns=['seconds','lots','stage','loss']).to_csv(s.out/'loss.csv', index=False)
    if not s.later: choose(s, held, ema, report, known, now, say)
    for o in (pool,other): o.terminate()
    say('done')

def choose(s, held, ema, report, known, now, say):
    "Which stage, by figures of its pictures left out; beside the net that ships"
    best = max(report, key=lambda k:max(v['CPM'] for v in report[k]['painted'].values())+report[k]['referable'])
    report['chosen'] = best
    report['form'] = max(report[best]['painted'], key=lambda k:report[best]['painted'][k]['CPM'])
    (s.out/'choice.json').write_text(json.dumps(report, indent=1))
    say('chosen', best, report['form'])
    report['shipped'] = held.told(known.get(60))
    report['held'] = dict(pictures=len(held.q), seconds=now(), device=torch.cuda.get_device_name() if s.device=='cuda' else 'cpu', **{k:int(sum(cv2.connectedComponents(o[k].astype(np.uint8))[0]-1 for o in held.truths)) for k in TYPES})
    (s.out/'choice~').write_text(json.dumps(report, indent=1))
    os.replace(s.out/'choice~', s.out/'choice.json')
    say('shipped', report['shipped'])
    look(held.im, held.truths, ask(ema, held.q[:6], s.device).cpu().numpy(), s.out/'held.jpg')

def weights_of(file): return shipped_weights('lesions') if str(file)=='shipped' else load_file(file)

class Eyes:
    "Photographs of frames; their vessels are what the net that is taught says of them"
    def __init__(self, frames, net): self.frames,self.net,self.vessels = frames,net,{}
    def vessel(self, i):
        if i not in self.vessels:
            im,m = (torch.from_numpy(o)[None] for o in self.frames[i][:2])
            self.vessels[i] = vessel_maps(self.net, im, m)[0].numpy()
        return self.vessels[i]
    def lot(self, ids, ill):
        g = zip(*((*self.frames[i],self.vessel(i)) for i in ids))
        return dict(zip(('image','mask','disc','vessel'), (torch.from_numpy(np.stack(o)) for o in g)), ill=torch.as_tensor(ill[ids]))

class Fresh:
    "A bank of things drawn for this lot alone"
    def __init__(self, items): self.items = [torch.from_numpy(np.stack(o)) for o in zip(*items)]
    def __len__(self): return len(self.items[0])

def more(s):
    "Teach the net that ships (or --start) on, on a CPU; goes on where it was stopped"
    s.out.mkdir(parents=True, exist_ok=True)
    begin(s.data)
    with zipfile.ZipFile(s.data) as z: df = pd.read_csv(io.BytesIO(z.read('list.csv')))
    net = LesionNet()
    net.load_state_dict(weights_of(s.start or 'shipped'))
    net = net.to(memory_format=torch.channels_last)
    teacher = copy.deepcopy(net).eval()
    frames = [frame(r) for r in df.to_dict('records')]
    df = df[[o is not None for o in frames]].reset_index(drop=True)
    ema,eyes = copy.deepcopy(teacher),Eyes([o for o in frames if o is not None], teacher)
    train,_,weak,_ = halves(df)
    ill,pos = may_have(df.grade.to_numpy()),torch.tensor(POS).view(-1,1,1)
    opt = torch.optim.AdamW(net.parameters(), lr=s.rate, weight_decay=1e-2)
    at,step,spent,log,losses = s.out/'state.pt',0,0.,[],[]
    if at.exists():
        o = torch.load(at, weights_only=False)
        for k,v in dict(net=net, ema=ema, opt=opt).items(): v.load_state_dict(o[k])
        step,spent,log = o['step'],o['spent'],o['log']
    begun = time.time()-spent
    def keep():
        w = {k:v.half() if v.is_floating_point() else v for k,v in ema.state_dict().items()}
        save_file({k:v.contiguous() for k,v in w.items()}, s.out/'more~')
        os.replace(s.out/'more~', s.out/'more.safetensors')
        torch.save(dict(net=net.state_dict(), ema=ema.state_dict(), opt=opt.state_dict(), step=step, spent=time.time()-begun, log=log), s.out/'state~')
        os.replace(s.out/'state~', at)
        pd.DataFrame(log, columns=['seconds','lots','loss']).to_csv(s.out/'loss.csv', index=False)
    saved = time.time()
    while (x := (time.time()-begun)/s.seconds)<1:
        b = Bench('cpu', 1_100_000+step+10**7*s.seed)
        for o in opt.param_groups: o['lr'] = s.rate*(min(1, (x+.005)/.05) if x<.05 else .5*(1+math.cos(math.pi*(x-.05)/.95)))+1e-6
        def draw(where, n, salt):
            t = Teacher.__new__(Teacher)
            t.device,t.g = 'cpu',eyes.lot(b.rng.choice(where[0], n, p=where[1]), ill)
            t.layers = Fresh([layer((11,step,salt,k,s.seed)[:4+(s.seed>0)])[1:] for k in range(2*n)])
            return t,np.arange(n)
        with torch.no_grad():
            t,ids = draw(train, 4, 0)
            parts = [t.from_eyes(b, ids)[1:4]]
            t,ids = draw(weak, 2, 1)
            parts.append(t.from_eyes(b, ids, teacher)[1:4])
            if step%3==0:
                t.phantoms = Fresh([phantom(900_000+step+10**6*s.seed)[1:]])
                parts.append(t.from_phantoms(b, 1))
            q,y,w = (torch.cat(o) for o in zip(*parts))
        loss = learn_from(net, opt, q, y, w, pos, 'cpu')
        step += 1
        if s.small: print(step, time.time()-begun, float(loss), flush=True)
        with torch.no_grad():
            for a,c in zip(ema.state_dict().values(), net.state_dict().values()):
                if a.is_floating_point(): a.lerp_(c, .02)
        losses.append(float(loss))
        if step%20==0:
            log.append((time.time()-begun, step, float(np.mean(losses))))
            losses.clear()
            print(*log[-1], flush=True)
        if time.time()-saved>60: saved = keep() or time.time()
    keep()

def judge(s):
    "The figures of choice for files of weights (`shipped` for those of the library; A+B is the mean of two), on a CPU"
    begin(s.data)
    with zipfile.ZipFile(s.data) as z: df = pd.read_csv(io.BytesIO(z.read('list.csv')))
    df = df[(df['set']=='idrid')|df.ground].reset_index(drop=True)
    frames = [frame(r) for r in df.to_dict('records')]
    df,frames = df[[o is not None for o in frames]].reset_index(drop=True),[o for o in frames if o is not None]
    _,left,_,odd = halves(df)
    net = LesionNet().to(memory_format=torch.channels_last)
    net.load_state_dict(shipped_weights('lesions'))
    eyes,lot = Eyes(frames, net.eval()),8 if not s.small else 2
    class Out(Teacher):
        def __init__(self): self.device,self.k = 'cpu',0
        def from_eyes(self, b, ids):
            self.g,self.k = eyes.lot(ids, may_have(df.grade.to_numpy())),self.k+1
            self.layers = Fresh([layer((13,self.k,j))[1:] for j in range(2*len(ids))])
            return super().from_eyes(b, np.arange(len(ids)))
    with torch.no_grad(): held = Held(Out(), left, s.pictures, lot)
    if s.small: odd = odd[::12]
    held.real(*(torch.from_numpy(np.stack([frames[i][k] for i in odd])) for k in (0,1)), df.grade.to_numpy()[odd])
    rows = []
    for name in s.files:
        each = [weights_of(o) for o in name.split('+')]
        net.load_state_dict({k:sum(o[k].float() for o in each)/len(each) for k in each[0]})
        f,_ = held.figures(net)
        rows += [dict(net=name, read=how, CPM=t['CPM'], referable=f['referable'], **{f'{k} {c}':t[k][c] for k in TYPES for c in ('CPM','10 FP','cut')}) for how,t in f['painted'].items()]
        print(pd.DataFrame(rows[-len(f['painted']):]).round(4).to_string(), f['interval'], flush=True)

def pack(s):
    "Photographs and list.csv in one file"
    data,lot,rows = Path(os.environ['FUNDUS_TEST_DATA']),np.random.default_rng(5),[]
    d = pd.read_csv(data/'idrid/labels.csv')
    d = d.assign(grade=pd.to_numeric(d.dr_grade, errors='coerce')).dropna(subset=['grade'])
    rows += [('idrid',data/'idrid'/r.image,int(r.image_id),int(r.grade)) for r in d.itertuples()]
    h = pd.read_csv(data/'hrf_av/labels.csv')
    rows += [('hrf_av',data/'hrf_av'/o,-1,0) for o in h.image[h.group=='healthy']]
    rows += [('drive',o,-1,0) for o in sorted((data/'drive/images').iterdir())]
    o = pd.read_csv(data/'odir5k/full_df.csv').drop_duplicates('ID')
    for kind,words,n,grade in ODIR:
        names = {f'{i}_{e.lower()}.jpg' for e in ('Left','Right') for i,k in zip(o.ID, o[f'{e}-Diagnostic Keywords']) if k in words}
        there = [p for k in sorted(names) if (p := data/'odir5k/preprocessed_images'/k).exists()]
        rows += [(kind,p,-1,grade) for p in lot.choice(there, n, replace=False)]
    table = []
    with zipfile.ZipFile(s.data, 'w') as z:
        for kind,p,i,grade in rows:
            b,name = p.read_bytes(),f'{kind}/{p.name}'
            if not kind.startswith('odir'):
                im,name = cv2.imread(str(p)),f'{kind}/{p.stem}.webp'
                if (k := 800/max(im.shape[:2]))<1: im = cv2.resize(im, None, fx=k, fy=k, interpolation=cv2.INTER_AREA)
                b = cv2.imencode('.webp', im, [cv2.IMWRITE_WEBP_QUALITY,86 if kind=='idrid' else 90])[1].tobytes()
            z.writestr(name, b)
            ground,l = grade==0 and not (kind=='idrid' and i%2),None
            if ground: l = landmarks(np.ascontiguousarray(cv2.imdecode(np.frombuffer(b, np.uint8), 1)[...,::-1]))
            table.append((name, kind, i, grade, ground, *((l.disc_x,l.disc_y,.5*max(l.disc_w, l.disc_h)) if l else (np.nan,)*3)))
        z.writestr('list.csv', pd.DataFrame(table, columns='name set id grade ground x y r'.split()).to_csv(index=False))

def look(ims, truths, prob, to):
    "The first pictures left out, with the outlines of what was painted, and beside them what the net says"
    color = dict(MA=(255,255,255), HE=(0,255,255), EX=(0,90,255), SE=(60,255,60))
    rows = []
    for im,t,p in zip(ims, truths, prob):
        a,c = im.copy(),im.copy()
        for k,m in zip(TYPES, p):
            for dst,src in ((a,t[k]),(c,cv2.resize(m, (SIDE,SIDE))>.5)):
                cv2.drawContours(dst, cv2.findContours(src.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0], -1, color[k], 1)
        rows.append(np.concatenate([im,a,c], 1))
    cv2.imwrite(str(to), np.concatenate(rows)[...,::-1], [cv2.IMWRITE_JPEG_QUALITY,88])

if __name__=='__main__':
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    subs = p.add_subparsers(dest='what', required=True)
    for k in ('pack','teach','more','judge'): subs.add_parser(k).add_argument('data')
    for k in ('teach','more'):
        q = subs.choices[k]
        q.add_argument('out', type=Path)
        q.add_argument('seconds', type=float)
        q.add_argument('--start', type=Path)
        q.add_argument('--rate', type=float, default=dict(teach=3e-3, more=7e-4)[k])
        q.add_argument('--small', action='store_true')
    q.add_argument('--seed', type=int, default=0)
    q = subs.choices['teach']
    q.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    q.add_argument('--painters', type=int, default=3)
    q.add_argument('--later', action='store_true')
    q = subs.choices['judge']
    q.add_argument('files', nargs='+')
    q.add_argument('--pictures', type=int, default=96)
    q.add_argument('--small', action='store_true')
    s = p.parse_args()
    globals()[s.what](s)
