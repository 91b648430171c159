"""Teach the net of anatomy.lesion_net anew. FUNDUS_TEST_DATA=DIR python tests/benchmarks/teach_lesions.py OUT [PICTURES SECONDS]

Draws PICTURES (600; seed 2): a fifth are phantoms with their masks, the others real photographs of eyes that a label calls healthy (the even
half of idrid's grade 0, HRF's healthy ones, 260 of odir5k's 'normal fundus' by lot, and the 20 of DRIVE, of which most are), into which lesions
are painted, and what is none. What is known of each candidate is kept in OUT, picture by picture, so that the program may be stopped and
called again (a third of a second of one core each; it stops by itself after SECONDS, 1e9); with all pictures there it fits the net (seed 0,
half a minute), tells its average precision on every eighth picture by type, left out, and writes OUT/lesions.safetensors. No mask, box or
count of a real lesion is read."""
import os, sys, time
for k in ('OMP_NUM_THREADS','OPENBLAS_NUM_THREADS','MKL_NUM_THREADS'): os.environ[k] = '1'
from pathlib import Path
import cv2, numpy as np, pandas as pd, torch, torch.nn.functional as F
from safetensors.torch import save_file
from sklearn.metrics import average_precision_score
from fundus_fastai.anatomy.landmarks import landmarks
from fundus_fastai.anatomy.lesion_net import SIDE, LesionFrame, SpotNet, color_contrast, spot_features
from fundus_fastai.image.read import read_image
from fundus_fastai.phantom.fundus import LESION_CODES, phantom_fundus

cv2.setNumThreads(1)
SEED,SETS = 2,dict(idrid=.58, hrf_av=.18, drive=.12, odir5k=.12) # shares of the real pictures

# ---- eyes without a lesion

def healthy(data):
    "Files of real photographs that a label calls healthy (DRIVE's: most are)"
    d = pd.read_csv(data/'idrid/labels.csv')
    d = d[(pd.to_numeric(d.dr_grade, errors='coerce')==0)&(d.image_id.astype(int)%2==0)]
    h = pd.read_csv(data/'hrf_av/labels.csv')
    o = pd.read_csv(data/'odir5k/full_df.csv')
    names = [f'{i}_{e.lower()}.jpg' for e in ('Left','Right') for i in o.ID[o[f'{e}-Diagnostic Keywords']=='normal fundus']]
    names = [p for k in sorted(set(names)) if (p := data/'odir5k/preprocessed_images'/k).exists()]
    return [*(data/'idrid'/k for k in d.image), *(data/'hrf_av'/k for k in h.image[h.group=='healthy']),
            *sorted((data/'drive/images').iterdir()), *np.random.default_rng(5).choice(names, 260, replace=False)]

def ground(path):
    "A photograph's square, its mask, and the disc in it (x, y, radius; NaN where it is not found); None without a round field"
    im = read_image(path)
    o,f = landmarks(im),LesionFrame(im)
    if f.field.fit==0 or f.mask.mean()<.5: return None
    return f.image,f.mask,np.array([(o.disc_x-f.x)/f.k[0], (o.disc_y-f.y)/f.k[1], .5*max(o.disc_w, o.disc_h)/f.k[0]])

def grounds(data, to):
    "Pictures, masks (packed), discs and the set's name of all healthy eyes, kept in the file `to`"
    if not to.exists():
        z = [(*g, list(SETS).index(p.relative_to(data).parts[0])) for p in healthy(data) if (g := ground(p)) is not None]
        np.savez(to, **{k:np.stack(o) for k,o in zip('xmdg', zip(*[(x, np.packbits(m), d, g) for x,m,d,g in z]))})
    with np.load(to) as z: return z['x'],[np.unpackbits(o).reshape(SIDE,SIDE)>0 for o in z['m']],z['d'],z['g']

# ---- painting

def blob(rng, r, rough=.15, long=1., turn=0., n=20):
    "Alpha [k,k] of a rough ellipse of radius r"
    k = int(np.ceil(r*long*1.5))*2+7
    t = np.linspace(0, 2*np.pi, n, endpoint=False)
    w = rng.normal(0, 1, n)
    w = (w+np.roll(w,1)+np.roll(w,-1))/1.7
    q = r*np.clip(1+rough*w, .3, 1.9)
    p = np.stack([q*np.cos(t)*long**.5, q*np.sin(t)/long**.5], 1)
    c,s = np.cos(turn),np.sin(turn)
    p = p@np.array([[c,s],[-s,c]])+k/2-.5+rng.uniform(-.5,.5,2)
    a = np.zeros((4*k,4*k), np.uint8)
    cv2.fillPoly(a, [np.round((p+.5)*4-.5).astype(np.int32)], 255)
    return cv2.resize(a, (k,k), interpolation=cv2.INTER_AREA).astype(np.float32)/255

class Canvas:
    def __init__(self, im, mask, rng, avoid, disc, psf):
        self.im,self.mask,self.rng,self.avoid,self.disc,self.psf = im.astype(np.float32),mask,rng,avoid,disc,psf
        self.bits = np.zeros(im.shape[:2], np.uint8)
        self.ok = cv2.erode(mask.astype(np.uint8), np.ones((9,9)), borderValue=0)>0
        ys,xs = np.nonzero(self.ok&~avoid)
        self.free = np.stack([xs,ys],1)
        ys,xs = np.nonzero(self.ok)
        self.any = np.stack([xs,ys],1)
    def spot(self, free=True, off=1.25):
        pts = self.free if free and len(self.free) else self.any
        for _ in range(20):
            p = pts[self.rng.integers(len(pts))]
            if not np.isfinite(self.disc[0]) or np.hypot(*(p-self.disc[:2]))>off*self.disc[2]: break
        return p.astype(float)
    def stamp(self, a, at, depth, bit=None, soft=0., add=None):
        s = np.hypot(self.psf, soft)
        pad = int(2*s)+2
        a = cv2.GaussianBlur(cv2.copyMakeBorder(a, *(pad,)*4, cv2.BORDER_CONSTANT), (0,0), s)
        k = len(a)
        x0,y0 = (int(round(o-k/2)) for o in at)
        h,w = self.mask.shape
        u0,v0,u1,v1 = max(0,x0),max(0,y0),min(w,x0+k),min(h,y0+k)
        if u1-u0<2 or v1-v0<2: return
        a = a[v0-y0:v1-y0,u0-x0:u1-x0]
        im = self.im[v0:v1,u0:u1]
        im *= np.exp(a[...,None]*np.asarray(depth, np.float32))
        if add is not None: im += a[...,None]*np.asarray(add, np.float32)
        if bit is not None:
            b = self.bits[v0:v1,u0:u1]
            top = a.max()
            b |= ((a>.4*top).astype(np.uint8)*bit)

def red(rng, g):
    return -np.array([g*rng.uniform(.02,.45), g, g*rng.uniform(.1,.8)])

def yellow(rng, g):
    return np.array([g*rng.uniform(.0,.45), g, g*rng.uniform(.05,.7)])

def contrast(rng, lo, hi): return float(np.exp(rng.uniform(np.log(lo), np.log(hi))))

def paint(c):
    rng = c.rng
    z = rng.uniform(.8,1.25)
    kinds = rng.random(4) < (.75,.7,.65,.4)
    if rng.random()<.12: kinds[:] = False
    tone = rng.uniform(.75,1.3) # how strong lesions are in this eye
    if kinds[0]:
        for _ in range(rng.poisson(rng.uniform(2,30))):
            r = z*np.clip(rng.lognormal(np.log(2.0),.28),1.2,3.6)
            c.stamp(blob(rng, r, .08, rng.uniform(1,1.3), rng.uniform(0,3.2)), c.spot(), red(rng, tone*contrast(rng,.1,.45)), 1 if r<3.1*z else 3)
    def dot(at, lo=2.2, hi=9, g=None):
        r = z*contrast(rng, lo, hi)
        c.stamp(blob(rng, r, rng.uniform(.08,.35), rng.uniform(1,1.9), rng.uniform(0,3.2)), at, red(rng, g or tone*contrast(rng,.1,.65)),
                2 if r>3.3*z else 3, soft=rng.uniform(0,.25)*r)
    if kinds[1]:
        for _ in range(rng.poisson(rng.uniform(1,20))): dot(c.spot())
        for _ in range(rng.poisson(rng.uniform(0,2.5))): # clusters
            at,w,g = c.spot(),rng.uniform(8,30),tone*contrast(rng,.12,.6)
            for _ in range(rng.integers(3,16)): dot(at+rng.normal(0,w,2), 1.5, 6, g*rng.uniform(.7,1.2))
        for _ in range(rng.poisson(rng.uniform(0,3))): # flames
            at,turn,g,w = c.spot(False),rng.uniform(0,3.2),tone*contrast(rng,.12,.6),rng.uniform(2,9)
            for _ in range(rng.integers(2,9)):
                r = z*rng.uniform(2,6)
                c.stamp(blob(rng, r, .25, rng.uniform(2,6), turn+rng.normal(0,.12)), at+rng.normal(0,w,2), red(rng, g*rng.uniform(.5,1)), 2, soft=rng.uniform(.3,1.5))
        for _ in range(rng.poisson(.25)): # blots
            r = z*contrast(rng,9,26)
            c.stamp(blob(rng, r, .35, rng.uniform(1,2), rng.uniform(0,3.2)), c.spot(False), red(rng, contrast(rng,.2,.8)), 2, soft=rng.uniform(.5,4))
    if kinds[2]:
        for _ in range(1+rng.poisson(rng.uniform(0,4))):
            at,w,g = c.spot(False,1.5),contrast(rng,3,45),tone*contrast(rng,.1,.75)
            tint,ring = yellow(rng,1.),rng.random()<.25
            n = int(contrast(rng,1,40)) if w>8 else rng.integers(1,6)
            for _ in range(n):
                t = rng.uniform(0,2*np.pi)
                off = np.array([np.cos(t),np.sin(t)])*w*rng.normal(1.2,.2) if ring else rng.normal(0,w,2)
                p = at+off
                if np.hypot(*(p-c.disc[:2]))<1.2*c.disc[2]: continue
                r = z*np.clip(rng.lognormal(np.log(2.3),.55),.9,14)
                c.stamp(blob(rng, r, rng.uniform(.1,.4), rng.uniform(1,2.2), rng.uniform(0,3.2)), p, tint*g*rng.uniform(.4,1.15), 4,
                        soft=rng.uniform(0,.25)*r, add=(0,0,g*rng.uniform(0,25)))
    if kinds[3]:
        for _ in range(1+rng.poisson(rng.uniform(0,3))):
            r,g = z*contrast(rng,6,20),tone*contrast(rng,.1,.5)
            at,turn = c.spot(False,1.5),rng.uniform(0,3.2)
            d = np.array([g*rng.uniform(.0,.4), g, g*rng.uniform(.3,1.1)])
            add = (0,0,g*rng.uniform(0,45))
            for _ in range(rng.integers(1,4)):
                c.stamp(blob(rng, r*rng.uniform(.6,1), .25, rng.uniform(1,2), turn+rng.normal(0,.3)), at+rng.normal(0,.35*r,2), d*.8, 8, soft=rng.uniform(.12,.4)*r, add=add)
    return kinds

def streak(rng, n, w, turn, bend):
    k = 2*n+9
    a = np.zeros((k*2,k*2), np.uint8)
    t = np.linspace(-1,1,20)
    p = np.stack([t*n, bend*n*(t**2-.4)],1)
    c,s = np.cos(turn),np.sin(turn)
    p = (p@np.array([[c,s],[-s,c]])+k/2)*2
    cv2.polylines(a, [np.round(p).astype(np.int32)], False, 255, max(1,int(round(2*w))), cv2.LINE_AA)
    return cv2.resize(a,(k,k),interpolation=cv2.INTER_AREA).astype(np.float32)/255

def distract(c):
    "What is no lesion: reflexes, drusen, pigment, dust, clouds"
    rng = c.rng
    if rng.random()<.3: # shine of nerve fibers and along vessels
        for _ in range(rng.integers(2,14)):
            g = contrast(rng,.04,.25)
            c.stamp(streak(rng, int(contrast(rng,8,60)), rng.uniform(1,5), rng.uniform(0,6.3), rng.uniform(-.5,.5)), c.spot(False,.8), np.array([.5,1,1])*g, soft=rng.uniform(.5,4))
    if rng.random()<.2: # shine, wide
        for _ in range(rng.integers(1,5)):
            g = contrast(rng,.05,.3)
            c.stamp(blob(rng, contrast(rng,14,60), .2, rng.uniform(1,5), rng.uniform(0,3.2)), c.spot(False,.8), np.array([.5,1,.9])*g, soft=rng.uniform(5,20))
    if rng.random()<.15: # drusen
        at,w = c.spot(False,1.5),rng.uniform(20,90)
        for _ in range(rng.integers(2,25)):
            r = rng.uniform(1.5,6)
            c.stamp(blob(rng, r, .1), at+rng.normal(0,w,2), yellow(rng, contrast(rng,.03,.12)), soft=.45*r)
    if rng.random()<.25: # pigment: dark in red as well
        for _ in range(rng.integers(1,8)):
            g,r = contrast(rng,.06,.4),contrast(rng,2,12)
            c.stamp(blob(rng, r, .3, rng.uniform(1,2), rng.uniform(0,3.2)), c.spot(False,.8), -np.array([rng.uniform(.8,1.4),1,rng.uniform(.8,1.2)])*g, soft=.4*r)
    if rng.random()<.3: # dust on the lens: white or gray, blurred; small and sharp, with all colors
        for _ in range(rng.integers(1,7)):
            r,s = contrast(rng,1,12),rng.choice([-1,1],p=[.4,.6])
            c.stamp(blob(rng, r, .1), c.spot(False,.0), s*np.array([1,1,1])*contrast(rng,.04,.2), soft=rng.uniform(.2,.8)*r, add=(s*3,s*3,s*6))
    if rng.random()<.12: # scars of laser
        at,w = c.spot(False,1.8),rng.uniform(20,120)
        for _ in range(rng.integers(3,25)):
            p,r = at+rng.normal(0,w,2),rng.uniform(4,9)
            c.stamp(blob(rng,r,.12), p, np.array([.3,.35,.4])*rng.uniform(.2,1), soft=.2*r)
            c.stamp(blob(rng,r*.45,.3), p, -np.array([1,1,1])*rng.uniform(.2,.9), soft=.2*r)

def degrade(im, mask, rng):
    a = im.astype(np.float32)
    if rng.random()<.25: # clouds
        f = cv2.resize(rng.random((6,6)).astype(np.float32), a.shape[1::-1], interpolation=cv2.INTER_CUBIC)[...,None]
        v = rng.uniform(.1,.5)*np.clip(f,0,1)
        a = a*(1-v)+v*np.array([170,120,80])*rng.uniform(.6,1.2)
    if rng.random()<.5:
        f = cv2.resize(rng.uniform(.6,1.25,(3,3)).astype(np.float32), a.shape[1::-1], interpolation=cv2.INTER_CUBIC)
        a = a*f[...,None]
    m = a[::4,::4][mask[::4,::4]].mean(0)+1
    want = np.array([rng.uniform(110,235), rng.uniform(45,130), rng.uniform(8,90)])
    a = np.clip(a,0,None)
    keep = rng.random()*.7+.3
    a = a*((want/m)**keep)
    g = np.exp(rng.uniform(-.3,.3))
    a = 255*np.clip(a/255,0,1.2)**g
    if rng.random()<.5: a = cv2.GaussianBlur(a,(0,0),rng.uniform(.3,1.))
    if rng.random()<.2:
        k = rng.uniform(1.05,1.4)
        n = int(len(a)/k)
        a = cv2.resize(cv2.resize(a,(n,n),interpolation=cv2.INTER_AREA),a.shape[1::-1],interpolation=cv2.INTER_CUBIC)
    if rng.random()<.15: # sharpened by the camera
        a = a+rng.uniform(.3,1.2)*(a-cv2.GaussianBlur(a,(0,0),rng.uniform(1,2.5)))
    n = rng.standard_normal(a.shape, dtype=np.float32)
    if rng.random()<.4: n = cv2.GaussianBlur(n,(0,0),.8)*2
    a = a+n*rng.uniform(0,2.5)*np.array([1,1,1.5])
    a = np.clip(a,0,255).astype(np.uint8)
    a[~mask] = 0
    if rng.random()<.6: a = cv2.imdecode(cv2.imencode('.jpg',a[...,::-1],[cv2.IMWRITE_JPEG_QUALITY,int(rng.integers(78,98))])[1],1)[...,::-1]
    return np.ascontiguousarray(a)

def moved(im, mask, disc, rng):
    t,k = rng.uniform(0,360),rng.uniform(.9,1.15)
    M = cv2.getRotationMatrix2D((SIDE/2-.5,)*2, t, k)
    M[:,2] += rng.uniform(-20,20,2)
    if rng.random()<.5: M = M@np.array([[-1,0,SIDE-1],[0,1,0],[0,0,1.]])
    d = M@np.r_[disc[:2],1.]
    w = lambda a,i: cv2.warpAffine(a, M, (SIDE,SIDE), flags=i, borderValue=0)
    return w(im,cv2.INTER_CUBIC),w(mask.astype(np.uint8),cv2.INTER_NEAREST)>0,np.r_[d,disc[2]*k]


# ---- one picture and what is known of its candidates

def phantom(i, rng):
    "A phantom, two of three with retinopathy: picture, mask, bits of its lesions, disc"
    ill = bool(i%3)
    o = phantom_fundus(['diabetic retinopathy'] if ill else None, SEED, i+1, eye='RL'[i//5%2], grade=int(rng.choice([1,2,3,4])) if ill else None, size=SIDE)
    bits = np.zeros((SIDE,SIDE), np.uint8)
    for b,k in zip((1,2,4,8), LESION_CODES.values()):
        if k in o.masks: bits |= o.masks[k].astype(np.uint8)*np.uint8(b)
    x0,y0,x1,y1 = o.disc
    return degrade(o.image, o.field, rng),o.field,bits,np.array([(x0+x1)/2, (y0+y1)/2, (y1-y0)/2])

def painted(eye, rng):
    "A healthy eye with lesions painted in it, likewise"
    im,mask,disc = moved(*eye, rng)
    q = color_contrast(im, mask)
    avoid = (q[1]<-1.6)|(np.abs(cv2.GaussianBlur(q[1], (0,0), 3))>2.5) # where a dot would not be seen
    c = Canvas(im, mask, rng, avoid, disc if np.isfinite(disc).all() else np.array([np.nan,np.nan,0]), rng.uniform(.6, 1.3))
    first = rng.random()<.5
    if first: distract(c)
    paint(c)
    if not first: distract(c)
    return degrade(np.clip(c.im, 0, 255), mask, rng),mask,c.bits,disc

def seen_only(bits, q):
    "Bits without the lesions that cannot be seen any more, and where those are"
    d = cv2.GaussianBlur(q[1], (0,0), 1.2)-cv2.GaussianBlur(q[1], (0,0), 5)
    bits,gone = bits.copy(),np.zeros(bits.shape, bool)
    for b,sign in ((3,-1), (4,1)):
        n,part = cv2.connectedComponents(((bits&b)>0).astype(np.uint8))
        top = np.full(n, -9.)
        np.maximum.at(top, part.ravel(), (sign*d).ravel())
        lost = (top<.8)[part]&(part>0)
        bits[lost] &= np.uint8(0xff-b)
        gone |= cv2.dilate(lost.astype(np.uint8), np.ones((5,5)))>0
    return bits,gone

def one(i, eyes, share):
    "What is known of the candidates of picture `i` [n,54], and which of the four types each is [n,4]"
    rng = np.random.default_rng([SEED,i])
    im,mask,bits,disc = phantom(i, rng) if i%5==4 else painted(eyes[rng.choice(len(eyes), p=share)], rng)
    q = color_contrast(im, mask)
    bits,gone = seen_only(bits, q)
    at,known,_ = spot_features(q, mask, disc)
    y,x = at.T
    types = np.stack([cv2.dilate((bits>>k)&1, np.ones((5,5)))[y,x]>0 for k in range(4)], 1)
    keep = types.any(1)|~gone[y,x]
    return known[keep],types[keep]

# ---- the net

def fitted(x, y, steps=2500, rate=3e-3):
    "A `SpotNet`; lesions are drawn four times as often as what is none"
    torch.manual_seed(0)
    rng,net = np.random.default_rng(0),SpotNet()
    net.mean.copy_(torch.from_numpy(x.mean(0)))
    net.sd.copy_(torch.from_numpy(x.std(0)+1e-3))
    t,s = torch.from_numpy(y.astype(np.float32)),net.scaled(torch.from_numpy(x))
    chance = np.cumsum(np.where(y.any(1), 4., 1.))
    opt = torch.optim.AdamW(net.layers.parameters(), lr=rate, weight_decay=1e-2)
    plan = torch.optim.lr_scheduler.OneCycleLR(opt, rate, total_steps=steps)
    for _ in range(steps):
        j = torch.from_numpy(np.searchsorted(chance, rng.random(512)*chance[-1]))
        a = s[j]*(1+.15*torch.randn(len(j), 1))+.15*torch.randn(len(j), s.shape[1])
        loss = F.binary_cross_entropy_with_logits(net.layers(a), t[j])
        opt.zero_grad()
        loss.backward()
        opt.step()
        plan.step()
    return net.eval()

def main(out, pictures=600, seconds=1e9):
    t,out,data = time.time(),Path(out),Path(os.environ['FUNDUS_TEST_DATA'])
    out.mkdir(parents=True, exist_ok=True)
    x,m,d,g = grounds(data, out/'grounds.npz')
    share = np.array(list(SETS.values()))[g]/np.bincount(g)[g]
    eyes = list(zip(x, m, d))
    for i in range(pictures):
        if (out/f'{i:05d}.npz').exists(): continue
        if time.time()-t>seconds: return print(f'{i} of {pictures} pictures: call again')
        x,y = one(i, eyes, share/share.sum())
        np.savez(out/f'{i:05d}~.npz', x=x.astype(np.float16), y=y)
        os.replace(out/f'{i:05d}~.npz', out/f'{i:05d}.npz')
    print(f'{pictures} pictures, {(time.time()-t)/60:.1f} minutes')
    parts = [np.load(out/f'{i:05d}.npz') for i in range(pictures)]
    x,y = (np.concatenate([o[k] for o in parts]) for k in 'xy')
    x,out8 = x.astype(np.float32),np.repeat(np.arange(pictures)%8==0, [len(o['y']) for o in parts])
    net = fitted(x[~out8], y[~out8])
    p = net(torch.from_numpy(x[out8])).sigmoid().detach().numpy()
    for k,name in enumerate(LESION_CODES):
        n = y[out8,k].sum()
        print(f'{name}: average precision {average_precision_score(y[out8,k], p[:,k]):.3f} on {n} of {out8.sum()} candidates left out;',
              'score with one false alarm a picture', np.round(np.sort(p[~y[out8].any(1),k])[-pictures//8], 2))
    save_file(net.state_dict(), out/'lesions.safetensors')
    print(f'{(time.time()-t)/60:.1f} minutes, {time.process_time()/60:.1f} of processor time')

if __name__=='__main__': main(sys.argv[1], *map(int, sys.argv[2:]))
