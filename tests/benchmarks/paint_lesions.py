"""The painter of teach_lesions.py: lesions, and what is none, stamped into a picture or on an empty layer."""
import cv2, numpy as np

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
    "Where is painted: depth of each color in logs and what is added to blue [side,side,4], bits of the four types, the places that may be hit"
    def __init__(self, rng, side):
        y,x = np.mgrid[:side,:side]
        y,x = np.nonzero(np.hypot(x-side/2+.5, y-side/2+.5)<side/2-6)
        self.places,self.rng,self.psf = np.stack([x,y], 1),rng,rng.uniform(.5, 1.3)
        self.im,self.bits = np.zeros((side,side,4), np.float32),np.zeros((side,side), np.uint8)
    def spot(self): return self.places[self.rng.integers(len(self.places))].astype(float)
    def stamp(self, a, at, depth, bit=None, soft=0., add=None):
        s = np.hypot(self.psf, soft)
        pad = int(2*s)+2
        a = cv2.GaussianBlur(cv2.copyMakeBorder(a, *(pad,)*4, cv2.BORDER_CONSTANT), (0,0), s)
        k,side = len(a),len(self.im)
        x0,y0 = (int(round(o-k/2)) for o in at)
        u0,v0,u1,v1 = max(0,x0),max(0,y0),min(side,x0+k),min(side,y0+k)
        if u1-u0<2 or v1-v0<2: return
        a = a[v0-y0:v1-y0,u0-x0:u1-x0]
        self.im[v0:v1,u0:u1,:3] += a[...,None]*np.asarray(depth, np.float32)
        if add is not None: self.im[v0:v1,u0:u1,3] += a*add[2]
        if bit is not None: self.bits[v0:v1,u0:u1] |= (a>.4*a.max()).astype(np.uint8)*np.uint8(bit)

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
            at,turn,g,w = c.spot(),rng.uniform(0,3.2),tone*contrast(rng,.12,.6),rng.uniform(2,9)
            for _ in range(rng.integers(2,9)):
                r = z*rng.uniform(2,6)
                c.stamp(blob(rng, r, .25, rng.uniform(2,6), turn+rng.normal(0,.12)), at+rng.normal(0,w,2), red(rng, g*rng.uniform(.5,1)), 2, soft=rng.uniform(.3,1.5))
        for _ in range(rng.poisson(.25)): # blots
            r = z*contrast(rng,9,26)
            c.stamp(blob(rng, r, .35, rng.uniform(1,2), rng.uniform(0,3.2)), c.spot(), red(rng, contrast(rng,.2,.8)), 2, soft=rng.uniform(.5,4))
    if kinds[2]:
        for _ in range(1+rng.poisson(rng.uniform(0,4))):
            at,w,g = c.spot(),contrast(rng,3,45),tone*contrast(rng,.1,.75)
            tint,ring = yellow(rng,1.),rng.random()<.25
            n = int(contrast(rng,1,40)) if w>8 else rng.integers(1,6)
            for _ in range(n):
                t = rng.uniform(0,2*np.pi)
                off = np.array([np.cos(t),np.sin(t)])*w*rng.normal(1.2,.2) if ring else rng.normal(0,w,2)
                p = at+off
                r = z*np.clip(rng.lognormal(np.log(2.3),.55),.9,14)
                c.stamp(blob(rng, r, rng.uniform(.1,.4), rng.uniform(1,2.2), rng.uniform(0,3.2)), p, tint*g*rng.uniform(.4,1.15), 4,
                        soft=rng.uniform(0,.25)*r, add=(0,0,g*rng.uniform(0,25)))
    if kinds[3]:
        for _ in range(1+rng.poisson(rng.uniform(0,3))):
            r,g = z*contrast(rng,6,20),tone*contrast(rng,.1,.5)
            at,turn = c.spot(),rng.uniform(0,3.2)
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
            c.stamp(streak(rng, int(contrast(rng,8,60)), rng.uniform(1,5), rng.uniform(0,6.3), rng.uniform(-.5,.5)), c.spot(), np.array([.5,1,1])*g, soft=rng.uniform(.5,4))
    if rng.random()<.2: # shine, wide
        for _ in range(rng.integers(1,5)):
            g = contrast(rng,.05,.3)
            c.stamp(blob(rng, contrast(rng,14,60), .2, rng.uniform(1,5), rng.uniform(0,3.2)), c.spot(), np.array([.5,1,.9])*g, soft=rng.uniform(5,20))
    if rng.random()<.15: # drusen
        at,w = c.spot(),rng.uniform(20,90)
        for _ in range(rng.integers(2,25)):
            r = rng.uniform(1.5,6)
            c.stamp(blob(rng, r, .1), at+rng.normal(0,w,2), yellow(rng, contrast(rng,.03,.12)), soft=.45*r)
    if rng.random()<.25: # pigment: dark in red as well
        for _ in range(rng.integers(1,8)):
            g,r = contrast(rng,.06,.4),contrast(rng,2,12)
            c.stamp(blob(rng, r, .3, rng.uniform(1,2), rng.uniform(0,3.2)), c.spot(), -np.array([rng.uniform(.8,1.4),1,rng.uniform(.8,1.2)])*g, soft=.4*r)
    if rng.random()<.3: # dust on the lens: white or gray, blurred; small and sharp, with all colors
        for _ in range(rng.integers(1,7)):
            r,s = contrast(rng,1,12),rng.choice([-1,1],p=[.4,.6])
            c.stamp(blob(rng, r, .1), c.spot(), s*np.array([1,1,1])*contrast(rng,.04,.2), soft=rng.uniform(.2,.8)*r, add=(s*3,s*3,s*6))
    if rng.random()<.12: # scars of laser
        at,w = c.spot(),rng.uniform(20,120)
        for _ in range(rng.integers(3,25)):
            p,r = at+rng.normal(0,w,2),rng.uniform(4,9)
            c.stamp(blob(rng,r,.12), p, np.array([.3,.35,.4])*rng.uniform(.2,1), soft=.2*r)
            c.stamp(blob(rng,r*.45,.3), p, -np.array([1,1,1])*rng.uniform(.2,.9), soft=.2*r)

def small_vessels(c):
    "No lesion: thin dark lines, straight and wound"
    rng = c.rng
    if rng.random()>.35: return
    for _ in range(rng.integers(1,12)):
        at,g,w,n = c.spot(),contrast(rng,.05,.3),rng.uniform(.6,1.6),int(contrast(rng,5,35))
        for _ in range(rng.integers(1,4)):
            turn = rng.uniform(0,6.3)
            c.stamp(streak(rng, n, w, turn, rng.uniform(-.6,.6)), at, red(rng, g))
            at = at+n*1.6*np.array([np.cos(turn),-np.sin(turn)])

def tiny(c):
    "Dots that are as small as the smallest that are seen"
    rng = c.rng
    if rng.random()>.4: return
    for _ in range(rng.poisson(rng.uniform(1,20))):
        r = rng.uniform(.9,2.2)
        c.stamp(blob(rng, r, .08, rng.uniform(1,1.3), rng.uniform(0,3.2)), c.spot(), red(rng, contrast(rng,.12,.6)), 1)

def layer(rng, side):
    "A layer with what was painted on it"
    c = Canvas(rng, side)
    for f in rng.permutation([distract, small_vessels, tiny, paint]): f(c)
    return c
