"""Teach the two nets of anatomy.landmarks anew. FUNDUS_TEST_DATA=DIR python tests/benchmarks/teach_landmarks.py OUT [SECONDS1 SECONDS2]

Draws 3,200 phantoms of 208 px and 1,000 near ones of 352 px (seeds 7 and 8; some four minutes on one core, kept in OUT), then trains
the net of the whole field (SECONDS1, 500) and that of the window round the disc (SECONDS2, 80 a fold; three folds of the crops for the
figure, then all) on one core, by the clock: a faster machine sees more. Real images: the even half of idrid (boxes of the disc, a fifth of
the first net's lot), drishti_gs_crops (outlines, 45 % of the second's), the even half of idrid again (20 %). Writes landmarks.safetensors and
cup.safetensors (half floats), and prints the error of the vertical cup-to-disc ratio on crops of the folds left out."""
import os, sys, time
for k in ('OMP_NUM_THREADS','OPENBLAS_NUM_THREADS','MKL_NUM_THREADS'): os.environ[k] = '1'
from pathlib import Path
import cv2, numpy as np, pandas as pd, torch, torch.nn.functional as F
from safetensors.torch import save_file
from fundus_fastai.anatomy.landmarks import SIDE, WINDOW, LandmarkNet, cup_disc_ratio, standard
from fundus_fastai.image.read import read_image
from fundus_fastai.image.recipe import circle_crop, field_of_view, field_window
from fundus_fastai.phantom.fundus import VIEWS, phantom_fundus

Q = SIDE//4 # side of the first net's maps
gy,gx = np.mgrid[:Q,:Q].astype(np.float32)

# ---- pictures

def drawn(to, n, size, seed, views):
    "Phantoms [n,size,size,3] and, of each, disc (x, y, width, height), fovea (x, y), cup (width, height); kept in the file `to`"
    if to.exists(): return [np.load(to, allow_pickle=False)[k] for k in 'xy']
    x,y = np.zeros((n,size,size,3), np.uint8),np.zeros((n,8), np.float32)
    for i in range(n):
        o = phantom_fundus([] if i%3==0 else None, seed, i+1, eye='RL'[i//2%2], camera=views[i%len(views)], size=size)
        x[i] = o.image
        (a,b,c,d),(e,f,g,h),(p,q,r,s) = o.disc,o.fovea,o.cup
        y[i] = (a+c)/2,(b+d)/2,c-a,d-b,(e+g)/2,(f+h)/2,r-p,s-q
    np.savez(to, x=x, y=y)
    return x,y

def idrid(root):
    "The even half of IDRiD: its table, pictures, and the fields as squares of 208 px with the disc's box in them"
    d = pd.read_csv(root/'idrid/labels.csv')
    d = d[d.od_x.notna()]
    d = d[d.image_id.astype(int)%2==0]
    whole,x,y = [read_image(root/'idrid'/o) for o in d.image],[],[]
    for im,o in zip(whole, d.itertuples()):
        f = field_of_view(im)
        x0,y0,w,h = field_window(f)
        x.append(circle_crop(im, 208, f))
        y.append([(o.od_x-x0)*208/w-.5, (o.od_y-y0)*208/h-.5, o.od_w*208/w, o.od_h*208/h, 0, 0, 0, 0])
    return d,whole,np.array(x),np.array(y, np.float32)

def jitter(im, rng):
    "Other light, color, focus and grain"
    a = im.astype(np.float32)/255
    a = a**rng.uniform(.6, 1.6)*rng.uniform(.7, 1.25, 3)+rng.normal(0, .03, 3)
    if rng.random()<.15: a = a*.3+a.mean(2, keepdims=True)*.7
    if rng.random()<.4: a = cv2.GaussianBlur(a, (0,0), rng.uniform(.4, 1.6))
    if rng.random()<.4: a = a+rng.normal(0, rng.uniform(.005, .03), a.shape)
    return (np.clip(a, 0, 1)*255).astype(np.uint8)

def moved(im, pts, rng):
    "The square turned, shifted, nearer or farther, perhaps mirrored; its points; and how many times larger"
    h,z,t = len(im),rng.uniform(.85, 1.35)*SIDE/len(im),rng.uniform(-12, 12)
    M = cv2.getRotationMatrix2D((h/2-.5,h/2-.5), t, z)
    M[:,2] += SIDE/2-h/2+rng.uniform(-.1, .1, 2)*SIDE
    flip = rng.random()<.5
    o = cv2.warpAffine(im, M, (SIDE,SIDE), flags=cv2.INTER_AREA if z<.7 else cv2.INTER_LINEAR)
    p = pts@M[:,:2].T+M[:,2]
    if flip:
        o = np.ascontiguousarray(o[:,::-1])
        p[:,0] = SIDE-1-p[:,0]
    return o,p,z

def another_field(im, rng):
    "A round field, or one cut off above and below, in some"
    if rng.random()<.25:
        y,x = np.ogrid[:SIDE,:SIDE]
        im = im.copy()
        im[(x-SIDE/2+.5)**2+(y-SIDE/2+.5)**2>(.485*SIDE)**2] = 0
    elif rng.random()<.3:
        k = int(rng.uniform(.05, .2)*SIDE)
        im = im.copy()
        im[:k] = im[-k:] = 0
    return im

# ---- the whole field

def in_maps(p): return (np.asarray(p)+.5)*Q/SIDE-.5

def heat(p):
    "A small Gaussian round a point, of sum one; zero where it lies outside"
    g = np.exp(-((gx-p[0])**2+(gy-p[1])**2)/(2*1.1**2))
    return g/g.sum() if g.sum()>1e-3 else np.zeros_like(g)

def lesson(im, y, rng, fovea):
    "Input, target maps and what counts, of one picture; without its fovea where that is not known"
    o,p,z = moved(im, np.array([[y[0],y[1]],[y[4],y[5]]]), rng)
    o = another_field(jitter(o, rng), rng)
    t,use = np.zeros((3,Q,Q), np.float32),np.zeros(2, np.float32)
    for k in range(2 if fovea else 1):
        a,b = p[k]
        if 0<=a<SIDE and 0<=b<SIDE and o[int(b),int(a)].max()>20:
            t[k] = heat(in_maps(p[k]))
            use[k] = t[k].sum()>0
        else: t[k],use[k] = 1/Q**2,.1
    c,(w,h) = in_maps(p[0]),y[2:4]*z*Q/SIDE/2
    t[2] = ((gx-c[0])/max(w, .5))**2+((gy-c[1])/max(h, .5))**2<=1
    return standard(o),t,use

def nothing(rng, phantoms):
    "A picture without an eye: clouds, a shuffled phantom, layers of a scan"
    k = rng.integers(3)
    if k==0: o = cv2.resize(rng.integers(0, 255, (int(rng.integers(3,40)),)*2+(3,)).astype(np.uint8), (SIDE,SIDE), interpolation=cv2.INTER_CUBIC)
    elif k==1:
        o,n = cv2.resize(phantoms[rng.integers(len(phantoms))], (SIDE,SIDE)),SIDE//4
        b,q = [o[i*n:i*n+n,j*n:j*n+n] for i in range(4) for j in range(4)],rng.permutation(16)
        o = np.vstack([np.hstack([b[q[4*i+j]] for j in range(4)]) for i in range(4)])
    else:
        o = np.full((SIDE,SIDE,3), rng.integers(0, 90), np.uint8)
        for _ in range(int(rng.integers(2, 7))):
            x = np.arange(SIDE)
            y = rng.uniform(.2, .8)*SIDE+rng.uniform(2, 14)*np.sin(x/rng.uniform(15, 60))
            color = rng.integers(60, 255, 3).tolist() if rng.random()<.4 else (int(rng.integers(90, 230)),)*3
            cv2.polylines(o, [np.stack([x,y], 1).astype(np.int32)], False, color, int(rng.integers(1, 14)))
    t = np.full((3,Q,Q), 1/Q**2, np.float32)
    t[2] = 0
    return standard(jitter(o, rng)),t,np.array([.3,.3], np.float32)

def point_loss(o, t, use):
    "Cross-entropy of where the points are, and of the disc's pixels"
    ce = -(t[:,:2].flatten(2)*F.log_softmax(o[:,:2].flatten(2).float(), -1)).sum(-1)
    return (ce*use).sum()/use.sum()+2*F.binary_cross_entropy_with_logits(o[:,2].float(), t[:,2], pos_weight=torch.tensor(4.))

# ---- the window

def ellipse(shape, x, y, w, h):
    m = np.zeros(shape, np.uint8)
    cv2.ellipse(m, ((float(x),float(y)),(float(max(w, 1)),float(max(h, 1))),0), 1, -1)
    return m

def window(im, masks, x, y, side, rng, use):
    "Input, masks at a quarter of its side, and what counts, of a window round a disc"
    M = cv2.getRotationMatrix2D((float(x),float(y)), rng.uniform(-8, 8), WINDOW/side)
    M[:,2] += WINDOW/2-.5-x,WINDOW/2-.5-y
    o = cv2.warpAffine(im, M, (WINDOW,)*2, flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE)
    t = np.stack([cv2.warpAffine(k.astype(np.uint8), M, (WINDOW,)*2, flags=cv2.INTER_NEAREST) for k in masks]).astype(np.float32)
    if rng.random()<.5: o,t = np.ascontiguousarray(o[:,::-1]),np.ascontiguousarray(t[:,:,::-1])
    return standard(jitter(o, rng)),t.reshape(2, WINDOW//4, 4, WINDOW//4, 4).mean((2,4)),np.array(use, np.float32)

class Crops:
    "The crops of DRISHTI-GS, at 312 px with a margin, and their outlines"
    pad,k = 160,312/832
    def __init__(self, root):
        self.table = pd.read_csv(root/'drishti_gs_crops/labels.csv')
        self.images = [read_image(root/'drishti_gs_crops'/o) for o in self.table.image]
        masks = [cv2.imread(str(root/'drishti_gs_crops'/o), 0) for o in self.table['mask']]
        def grown(o, how, to): return cv2.resize(cv2.copyMakeBorder(o, *(self.pad,)*4, how, value=0), (312,312), interpolation=to)
        self.x = [grown(o, cv2.BORDER_REFLECT_101, cv2.INTER_AREA) for o in self.images]
        self.m = [grown(o, cv2.BORDER_CONSTANT, cv2.INTER_NEAREST) for o in masks]
    def window(self, i, rng):
        o,k = self.table.iloc[i],self.k
        side = min(max(o.disc_height, o.disc_width)*k*rng.uniform(1.05, 1.45), 512*k*1.05)
        far = max(0, (512*k*1.02-side)/2)
        x,y = (256+self.pad)*k+np.clip(rng.normal(0, .04*side, 2), -far, far)
        return window(self.x[i], (self.m[i]>0,self.m[i]==2), x, y, side, rng, [1,1])

def outline_loss(o, t, use):
    "Cross-entropy and overlap (Dice) of disc and cup"
    o = o.float()
    p,b = torch.sigmoid(o),F.binary_cross_entropy_with_logits(o, t, reduction='none').mean((2,3))
    dice = 1-(2*(p*t).sum((2,3))+5)/(p.sum((2,3))+t.sum((2,3))+5)
    return ((b+dice)*use).sum()/use.sum()

# ---- training

def train(net, draw, loss, *, seconds, seed, lr=3e-3):
    "Train by the clock, in bfloat16 and channels last"
    net = net.to(memory_format=torch.channels_last)
    opt,rng,t0,n = torch.optim.AdamW(net.parameters(), lr=lr, weight_decay=1e-4),np.random.default_rng(seed),time.time(),0
    while (s := (time.time()-t0)/seconds)<1:
        for g in opt.param_groups: g['lr'] = lr*min(1, s/.03)*(1-s)**.7+1e-5
        x,*y = [torch.from_numpy(np.stack(o)) for o in zip(*[draw(rng) for _ in range(16)])]
        with torch.autocast('cpu', torch.bfloat16): o = net(x.contiguous(memory_format=torch.channels_last))
        l = loss(o, *y)
        opt.zero_grad()
        l.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 2.)
        opt.step()
        n += 1
        if n%100==0: print(f'{n} lots, {time.time()-t0:.0f} s, loss {l.item():.3f}', flush=True)
    print(f'{n} lots of 16', flush=True)
    return net.eval()

def halves(net): return {k:(v.half() if v.is_floating_point() else v).contiguous() for k,v in net.state_dict().items()}

def main(out, first=500, second=320):
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    out,root = Path(out),Path(os.environ['FUNDUS_TEST_DATA'])
    out.mkdir(parents=True, exist_ok=True)
    X,Y = drawn(out/'whole.npz', 3200, 208, 7, (None,None,None,*VIEWS))
    table,whole,rx,ry = idrid(root)
    def draw(rng):
        u = rng.random()
        if u<.07: return nothing(rng, X)
        i,real = (rng.integers(len(rx)),True) if u<.27 else (rng.integers(len(X)),False)
        return lesson(rx[i], ry[i], rng, False) if real else lesson(X[i], Y[i], rng, True)
    if first:
        torch.manual_seed(0)
        net = train(LandmarkNet(3, (16,32,64)), draw, point_loss, seconds=first, seed=0)
        save_file(halves(net), out/'landmarks.safetensors')
    X,Y = drawn(out/'near.npz', 1000, 352, 8, ('near_disc','near'))
    crops = Crops(root)
    fold = np.arange(len(crops.table))%3
    def draw2(rng, keep):
        u = rng.random()
        if u<.45: return crops.window(keep[rng.integers(len(keep))], rng)
        if u<.65:
            i = rng.integers(len(whole))
            o,im = table.iloc[i],whole[i]
            x,y = np.array([o.od_x,o.od_y])+rng.normal(0, .1, 2)*o.od_w
            e = ellipse(im.shape[:2], o.od_x, o.od_y, o.od_w, o.od_h)
            return window(im, (e,e*0), x, y, max(o.od_w, o.od_h)*rng.uniform(1.2, 2.6), rng, [1,0])
        i = rng.integers(len(X))
        y = Y[i]
        x0,y0 = y[:2]+rng.normal(0, .1, 2)*y[2]
        masks = ellipse((352,352), *y[:4]),ellipse((352,352), y[0], y[1], y[6], y[7])
        return window(X[i], masks, x0, y0, max(y[2], y[3])*rng.uniform(1.1, 2.6), rng, [1,.4])
    said = np.full(len(fold), np.nan)
    for f in range(4):
        torch.manual_seed(f)
        net = train(LandmarkNet(2, (16,32,32)), lambda rng: draw2(rng, np.flatnonzero(fold!=f)), outline_loss, seconds=second/4, seed=f)
        for i in np.flatnonzero(fold==f): said[i] = cup_disc_ratio(crops.images[i], net)
    save_file(halves(net), out/'cup.safetensors')
    e = np.abs(said-crops.table.vcdr)
    print(f'cup over disc, three folds: n {len(e)}, mean error {e.mean():.3f}, median {e.median():.3f}')





if __name__=='__main__': main(sys.argv[1], *map(float, sys.argv[2:4]))
