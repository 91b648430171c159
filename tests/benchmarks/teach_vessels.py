"""Teach the net of anatomy.vessels anew. FUNDUS_TEST_DATA=DIR python tests/benchmarks/teach_vessels.py OUT [SECONDS JOB...]

A job is NAME:SHARE[:START]: SHARE of the SECONDS (700) goes to it, and it starts with the weights OUT/START.safetensors,
or with those of the library (`all:1:shipped`). Names:
phantom (phantoms only), all (the 20 images of DRIVE, and phantoms in 15 % of the patches), fold0 to fold3 (likewise, but without every
fourth image from the 0th to the 3rd on), scratch0 to scratch3 (without phantoms). Each writes OUT/NAME.safetensors (half floats), and prints
what the net says of the images that it has not seen. Training is by the clock, on one core: a faster or quieter machine sees more.
Long trainings are several runs: `all:1:all` goes on.
`soup` needs no training: the mean of the weights of all folds that are there, which started as one. Without jobs: phantoms, four folds, all.

Draws 200 phantoms first (seed 9; half a minute on one core, kept in OUT). Reads drive/ (photographs, manual vessels, fields) and drive_av/
(which vessels are arteries). DRIVE is for research: see fundus_fastai/anatomy/CARD.md."""
import os, sys, time
for k in ('OMP_NUM_THREADS','OPENBLAS_NUM_THREADS','MKL_NUM_THREADS'): os.environ[k] = '1'
from importlib.resources import files
from pathlib import Path
import cv2, numpy as np, torch, torch.nn.functional as F
from safetensors.torch import load_file, save_file
from sklearn.metrics import roc_auc_score
from fundus_fastai.anatomy.vessels import Scaled, VesselNet, contrast, vessels
from fundus_fastai.image.read import read_image
from fundus_fastai.phantom.fundus import phantom_fundus

SIDE,LOT = 128,8 # pixels of a patch, patches of a lot
SHIPPED = files('fundus_fastai')/'anatomy/vessels.safetensors'
OUTSIDE = 255 # label of what does not count; 0 none, 1 artery, 2 vein, 3 vessel of either kind

# ---- pictures

def gray(path): return cv2.imread(str(path), -1)

def drawn(to, n, size=556, seed=9):
    "Contrasts and labels of phantoms at the net's scale; kept in the file `to`"
    if to.exists():
        with np.load(to, allow_pickle=False) as z: return z['x'],z['y']
    x,y = np.zeros((n,size,size,3), np.float16),np.full((n,size,size), OUTSIDE, np.uint8)
    for i in range(n):
        o = phantom_fundus([] if i%2 else None, seed, i+1, eye='RL'[i//2%2], camera=[None,None,None,'disc','near'][i%5], size=size)
        w = Scaled(o.image)
        t = o.vessels['artery'].astype(np.uint8)+2*o.vessels['vein'].astype(np.uint8)
        t = cv2.resize(t, w.mask.shape[::-1], interpolation=cv2.INTER_NEAREST)
        h,b = t.shape
        x[i,:h,:b],y[i,:h,:b] = contrast(w.image, w.mask)[:size,:size],np.where(w.mask, t, OUTSIDE)[:size,:size]
    np.savez(to, x=x, y=y)
    return x,y

def drive(root):
    "Photographs of DRIVE, and labels as large; where the two readings disagree, of either kind"
    for i in range(21, 41):
        v,av = gray(root/f'drive/vessels/{i}.png')>0,gray(root/f'drive_av/masks_av/{i}_training.png')
        y = np.where(v, np.where(av>0, av, 3), 0).astype(np.uint8)
        yield read_image(root/f'drive/images/{i}.png'),np.where(gray(root/f'drive/fov/{i}.png')>0, y, OUTSIDE)

def patch(x, y, rng):
    "A patch, turned, mirrored, nearer or farther, bent, with other contrast and grain; its labels"
    h,w = y.shape
    while True:
        cy,cx = rng.integers(30, h-30),rng.integers(30, w-30)
        if y[cy,cx]!=OUTSIDE: break
    t,z = rng.uniform(0, 2*np.pi),np.exp(rng.normal(0, .13))
    g = np.arange(SIDE, dtype=np.float32)-SIDE/2+.5
    gx,gy = np.meshgrid(g*rng.choice([-1,1]), g)
    bend = rng.normal(0, rng.uniform(0, 2.5), (5,5,2)).astype(np.float32)
    bend = cv2.resize(bend, (SIDE,SIDE), interpolation=cv2.INTER_CUBIC)
    at = [cx+(gx*np.cos(t)-gy*np.sin(t))*z+bend[...,0],cy+(gx*np.sin(t)+gy*np.cos(t))*z+bend[...,1]]
    at = [o.astype(np.float32) for o in at]
    p = cv2.remap(x, *at, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    q = cv2.remap(y, *at, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=OUTSIDE)
    return np.ascontiguousarray(jitter(p, rng).transpose(2, 0, 1)),q

def jitter(p, rng):
    "Other contrast, color, gamma, focus and grain"
    n = rng.normal
    p = p@(np.eye(3)+n(0, .08, (3,3))).astype(np.float32)*np.exp(n(0, .15)+n(0, .2, 3)).astype(np.float32)
    p,u = p+n(0, .15, 3).astype(np.float32),rng.random()
    if u<.2: p = cv2.GaussianBlur(p, (0,0), rng.uniform(.4, 1.1))
    elif u<.35: p = p+(p-cv2.GaussianBlur(p, (0,0), 1.2))*np.float32(rng.uniform(.2, 1))
    if rng.random()<.4: p = p+n(0, rng.uniform(.02, .3), p.shape).astype(np.float32)
    p = np.sign(p)*np.abs(p)**np.float32(rng.uniform(.8, 1.25))
    return np.repeat(p[...,1:2], 3, 2) if rng.random()<.08 else p

# ---- training

def loss(o, y):
    "Cross-entropy and overlap (Dice) of vessels, cross-entropy of arteries on vessels of a known kind"
    o,use = o.float(),(y!=OUTSIDE).float()
    t,kind = ((y>0)&(y<4)).float(),((y==1)|(y==2)).float()
    p = torch.sigmoid(o[:,0])*use
    bce = (F.binary_cross_entropy_with_logits(o[:,0], t, reduction='none')*use).sum()/use.sum()
    dice = 1-(2*(p*t).sum()+1)/(p.sum()+t.sum()+1)
    av = (F.binary_cross_entropy_with_logits(o[:,1], (y==1).float(), reduction='none')*kind).sum()/(kind.sum()+1)
    return bce+.3*dice+.4*av

def train(net, draw, seconds, *, seed, lr=2e-3):
    "Train by the clock, in bfloat16 and channels last"
    net = net.train().to(memory_format=torch.channels_last)
    opt,rng,t0,n,run = torch.optim.AdamW(net.parameters(), lr=lr, weight_decay=1e-3),np.random.default_rng(seed),time.time(),0,[]
    while (s := (time.time()-t0)/seconds)<1:
        for g in opt.param_groups: g['lr'] = lr*min(1, s/.04+.02)*.5*(1+np.cos(np.pi*s))+1e-6
        x,y = (torch.from_numpy(np.stack(o)) for o in zip(*[draw(rng) for _ in range(LOT)]))
        with torch.autocast('cpu', torch.bfloat16): o = net(x.float().contiguous(memory_format=torch.channels_last))
        l = loss(o, y)
        opt.zero_grad()
        l.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 2.)
        opt.step()
        n,run = n+1,[*run[-99:],l.item()]
        if n%100==0: print(f'{n} lots, {time.time()-t0:.0f} s, loss {np.mean(run):.3f}', flush=True)
    print(f'{n} lots of {LOT}, {time.time()-t0:.0f} s, loss {np.mean(run):.3f}', flush=True)
    return net.eval()

def halves(net): return {k:(v.half() if v.is_floating_point() else v).contiguous() for k,v in net.state_dict().items()}

def weights(path): return {k:v.float() if v.is_floating_point() else v for k,v in load_file(path).items()}

# ---- figures

def judged(o, y):
    "AUC and F1 of the 8-bit map within the field; share of right kinds on vessels, and on those found"
    m,p = y!=OUTSIDE,np.round(255*o.full('prob')).astype(np.uint8)
    t,f,kind = (y>0)[m],p[m]>127,(y==1)|(y==2)
    right = (o.full('artery')>.5)==(y==1)
    return (roc_auc_score(t, p[m]),2*(t&f).sum()/(t.sum()+f.sum()),right[kind].mean(),right[kind&(p>127)].mean())

def left_out(name, n=20): return [i for i in range(n) if name[-1].isdigit() and i%4==int(name[-1])]

def main(out, seconds=700., jobs=('phantom:3','fold0:1:phantom','fold1:1:phantom','fold2:1:phantom','fold3:1:phantom','all:3:phantom'), n=200):
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    out,root = Path(out),Path(os.environ['FUNDUS_TEST_DATA'])
    out.mkdir(parents=True, exist_ok=True)
    PX,PY = drawn(out/'phantoms.npz', n)
    ims,Y = zip(*drive(root))
    X = [contrast(w.image, w.mask) for w in map(Scaled, ims)]
    jobs = [(o.split(':')+[''])[:3] for o in jobs]
    total = sum(float(o[1]) for o in jobs)
    for name,part,start in jobs:
        torch.manual_seed(0)
        if name=='soup':
            w = [weights(o) for o in sorted(out.glob('fold?.safetensors'))]
            mean = {k:sum(o[k] for o in w)/len(w) if v.is_floating_point() else v for k,v in w[0].items()}
            save_file({k:v.half() if v.is_floating_point() else v for k,v in mean.items()}, out/'soup.safetensors')
            continue
        net,skip = VesselNet(),left_out(name)
        keep = [i for i in range(20) if i not in skip]
        share = 1. if name=='phantom' else 0. if name.startswith('scratch') else .15
        if start: net.load_state_dict(weights(SHIPPED if start=='shipped' else out/f'{start}.safetensors'))
        def draw(rng):
            if rng.random()<share:
                i = rng.integers(len(PX))
                return patch(PX[i].astype(np.float32), PY[i], rng)
            i = keep[rng.integers(len(keep))]
            return patch(X[i], Y[i], rng)
        print(name, flush=True)
        train(net, draw, seconds*float(part)/total, seed=len(skip)+int(part), lr=1e-3 if start==name else 2e-3)
        save_file(halves(net), out/f'{name}.safetensors')
        if skip:
            j = np.array([judged(vessels(ims[i], net), Y[i]) for i in skip])
            print(f'{name}: AUC, F1, kinds right, on found', j.mean(0).round(4), flush=True)

if __name__=='__main__': main(sys.argv[1], *map(float, sys.argv[2:3]), *([sys.argv[3:]] if sys.argv[3:] else []))
