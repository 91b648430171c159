"FROC against a brute-force twin, against MONAI's figures, and in every dull corner"
import os
import numpy as np, pandas as pd, pytest
from PIL import Image
from fundus_fastai.core import DataError, EyeError
from fundus_fastai.score.estimate import TOO_FEW
from fundus_fastai.score.metrics import Draws
from fundus_fastai.explain import lesions as L
from fundus_fastai.explain.lesions import CPM, LesionHits, detections, froc, froc_curve, lesion_auc, match_lesions, plot_froc, sensitivities

def table(y, x, score, **more): return pd.DataFrame(dict(y=y, x=x, score=np.asarray(score, float), area=1, **more))

def case(seed, n=None, typed=False):
    "Random candidates and lesions whose hits are dealt out: an image's candidates, its lesions, and who hit whom"
    rng = np.random.default_rng(seed)
    n = n or rng.integers(1, 7)
    cand,les,links = [],[],[]
    for i in range(n):
        c0,l0 = len(cand),len(les)
        cand += [(i, o, 'ABC'[rng.integers(3)]) for o in rng.random(rng.integers(0, 12)).round(1)] # with ties
        les += [(i, 'AB'[rng.integers(2)], 1) for _ in range(rng.integers(0, 5))]
        for c in range(c0, len(cand)):
            for l in range(l0, len(les)):
                if rng.random()<.2: links.append((c, l))
    c = pd.DataFrame(cand, columns=['image','score','type']).astype(dict(image=int, score=float))
    if not typed: c = c.drop(columns='type')
    l = pd.DataFrame(les, columns=['image','type','area']).astype(dict(image=int, area=int))
    return LesionHits(c, l, np.array(links, int).reshape(-1,2), rng.integers(0, 4, n), ('A','B'), rng.random(len(c))<.3)

def brute(h, k, t, strict, weigh, healthy, spare):
    "False positives an image and sensitivity for lesions of the type `k` at the threshold `t`, by counting"
    typed = 'type' in h.candidates
    ill = set(h.lesions.image)
    images = [i for i in range(len(h)) if not healthy or i not in ill]
    fp = 0
    for c,r in h.candidates.iterrows():
        if r.score<t or (typed and r.type!=k) or r.image not in images: continue
        hit = [h.lesions.type[l] for a,l in h.links if a==c]
        fp += not ((k in hit if strict else hit) or (spare and h.disputed[c]))
    per = {}
    for l,r in h.lesions.iterrows():
        if r.type!=k: continue
        per.setdefault(r.image, []).append(any(h.candidates.score[a]>=t and (not typed or h.candidates.type[a]==k) for a,b in h.links if b==l))
    each = [np.mean(o) for o in per.values()] if weigh=='images' else sum(per.values(), [])
    return fp/max(1, len(images)),np.mean(each) if each else np.nan

@pytest.mark.parametrize('part', range(10))
def test_twin(part):
    for seed in range(20*part, 20*part+20):
        h,rng = case(seed, typed=seed%2),np.random.default_rng(seed)
        o = dict(strict=bool(rng.integers(2)), weigh=['lesions','images'][rng.integers(2)], healthy=bool(rng.integers(2)), spare=bool(rng.integers(2)))
        for k in 'AB':
            if not (h.lesions.type==k).any(): continue
            s = h.search(k, **o)
            ts = sorted({*h.candidates.score})[::-1]
            points = [(0., 0.)]+[brute(h, k, t, **o) for t in ts]
            assert {*zip(*map(tuple, map(np.round, froc_curve(h, k, **o), (9,9))))} <= {(round(a, 9),round(b, 9)) for a,b in points}, (seed, k, o)
            reached = len(s.alarms)/max(1, s.counted.sum())
            assert [round(v, 9) for v in (froc_curve(h, k, **o)[1][-1], reached)]==[round(points[-1][1], 9), round(points[-1][0], 9)]
            got = sensitivities(np.arange(len(h)), s, at=(.3,1,4))
            for q in (.3,1,4):
                if s.counted.any(): assert got[f'{q:g} FP']==pytest.approx(max(b for a,b in points if a<=q+1e-9)), (seed, k, o, q)
            if s.counted.any():
                assert got['CPM']==pytest.approx(np.mean([max(b for a,b in points if a<=q+1e-9) for q in CPM]))

@pytest.mark.parametrize('typed', [0,1])
def test_a_resample_is_a_set_of_images(typed):
    "Weights give what the drawn patients' images give when they are laid side by side"
    h = case(3, 9, typed)
    who = np.unique(h.patient, return_inverse=True)[1]
    counts = np.random.default_rng(0).integers(0, 3, (25,who.max()+1))
    for weigh in ('lesions','images'):
        got = sensitivities(None, h.search('A', weigh=weigh), Draws(counts, who, {}), at=(.5,2))
        for b,row in enumerate(counts):
            images = np.repeat(np.arange(len(h)), row[who])
            if not np.isin(h.lesions.image[h.lesions.type=='A'], images).any():
                assert np.isnan(got['CPM'][b])
                continue
            cs,ls,links,nc,nl = [],[],[],0,0
            for j,i in enumerate(images):
                c,l = (np.flatnonzero(o.image==i) for o in (h.candidates, h.lesions))
                cs.append(h.candidates.iloc[c].assign(image=j)); ls.append(h.lesions.iloc[l].assign(image=j))
                links += [(nc+list(c).index(a), nl+list(l).index(o)) for a,o in h.links if a in c]
                nc,nl = nc+len(c),nl+len(l)
            other = LesionHits(pd.concat(cs, ignore_index=True), pd.concat(ls, ignore_index=True), np.array(links, int).reshape(-1,2), np.arange(len(images)), h.types)
            want = sensitivities(None, other.search('A', weigh=weigh), at=(.5,2))
            assert {k:v[b] for k,v in got.items()}==pytest.approx(want), (weigh, b)

def test_few_alarms_are_looked_at_first_and_all_if_need_be():
    "The short list of alarms gives way to the whole one where a resample asks for more"
    rng = np.random.default_rng(1)
    n = 400
    c = pd.DataFrame(dict(image=np.r_[np.zeros(9000, int), rng.integers(1, n, 20000)], score=np.r_[rng.uniform(.9, 1, 9000), rng.random(20000)]))
    l = pd.DataFrame(dict(image=np.arange(n), type='A', area=1))
    links = np.stack([rng.choice(len(c), n, replace=False), np.arange(n)], 1)
    h = LesionHits(c, l, links, np.arange(n), ('A',))
    s = h.search('A')
    counts = np.ones((2,n), int)
    counts[1,0] = 0 # without the image that holds the highest alarms
    got = sensitivities(None, s, Draws(counts, np.arange(n), {}), at=(4,))['4 FP']
    for b in (0,1):
        a = s.alarms if b==0 else s.alarms[s.alarm_image!=0]
        best = s.best if b==0 else s.best[s.lesion_image!=0]
        assert got[b]==(best>a[4*(n-b)]).mean()

# --- MONAI 1.6.1: compute_fp_tp_probs_nd, compute_froc_curve_data, compute_froc_score on `monai_case(seed)`

def monai_case(seed):
    "Six label images with their points and scores"
    rng = np.random.default_rng(seed)
    for i in range(6):
        lab,k = np.zeros((40,60), int),0
        for _ in range(rng.integers(0,5)):
            y,x = rng.integers(2,36),rng.integers(2,56)
            if lab[max(0,y-2):y+5,max(0,x-2):x+5].any(): continue
            k += 1
            lab[y:y+3,x:x+3] = k
        m = rng.integers(3,15)
        pts = np.stack([rng.integers(0,40,m),rng.integers(0,60,m)], 1)
        for j in range(1, k+1):
            if rng.random()<.7: pts = np.r_[pts, [np.argwhere(lab==j)[rng.integers(9)]]]
        yield lab,pts,rng.random(len(pts)).round(2)

# lesions, points of the curve, every eighth of them: false positives an image, sensitivity; mean at 1/8 to 8, interpolated
MONAI = [(13, 46, [9.166667,7.5,5.833333,4.5,2.666667,1.5], [.538462,.538462,.384615,.307692,.307692,.153846], .16483516483516483),
         (15, 42, [8.5,7.166667,5.5,4.,1.833333,.166667], [.866667,.666667,.533333,.4,.333333,.066667], .2928571428571428),
         (13, 47, [9.333333,7.666667,6.,3.666667,2.166667,1.333333], [.923077,.923077,.769231,.769231,.461538,0.], .30769230769230776)]

@pytest.mark.parametrize('seed', range(3))
def test_monai(seed):
    lab,pts,p = zip(*monai_case(seed))
    h = match_lesions([table(*o.T, s) for o,s in zip(pts, p)], [dict(MA=o>0) for o in lab], grow=0)
    n,points,f,s,score = MONAI[seed]
    assert len(h.lesions)==n
    fp,got = froc_curve(h, 'MA')
    ours = {*zip(fp.round(6), got.round(6))}
    assert {*zip(f, s)} <= ours # MONAI leaves out the lowest threshold
    fp,got = fp[:points],got[:points]
    assert len(fp)==points and np.interp(CPM, fp, got).mean()==pytest.approx(score)
    assert all(got[fp<=q].max()<=np.interp(q, fp, got)+1e-9 for q in CPM) # we draw steps, and never between them

# --- what must hold of any map

def disk(y, x, r=3, shape=(120,160)): return np.hypot(*(np.mgrid[:shape[0],:shape[1]]-np.array([y,x])[:,None,None]))<=r

def blobs(): return [dict(MA=disk(30,40)|disk(80,100), EX=disk(60,60,6)), dict(MA=disk(20,20)), {}]

def test_a_perfect_map_finds_all_without_an_alarm():
    truths = blobs()
    maps = [{k:t.get(k, np.zeros((120,160), bool))*1. for k in ('MA','EX')} for t in truths]
    for by in ('peaks','components'):
        h = match_lesions([detections(m, by=by, above=.9) for m in maps], truths)
        t = froc(h, n_boot=20)
        assert t.lesions.to_dict()==dict(MA=3, EX=1) and (t.reached==0).all() and all(e.value==1 for e in t['1 FP'])
        assert all(e.value==1 for e in lesion_auc(h, n_boot=5).auc)

def test_noise_hits_by_chance():
    rng,truth = np.random.default_rng(0),dict(MA=disk(30,40,5)|disk(80,100,5))
    area = [(disk(y,x,5+2)).mean() for y,x in ((30,40),(80,100))]
    n,dets = 40,[]
    for _ in range(1500): dets.append(table(rng.integers(0, 120, 40), rng.integers(0, 160, 40), rng.random(40)))
    h = match_lesions(dets, [truth]*1500)
    assert froc_curve(h, 'MA')[1][-1]==pytest.approx(np.mean([1-(1-a)**n for a in area]), abs=.02)
    q = 10 # of 40 points a quarter lies above the threshold
    assert sensitivities(None, h.search('MA'), at=(q,))['10 FP']==pytest.approx(np.mean([1-(1-a)**10 for a in area]), abs=.02)

def some_hits(order=None, more=0):
    truths = blobs()+[{}]*more
    rng = np.random.default_rng(5)
    dets = [table(rng.integers(0, 120, 60), rng.integers(0, 160, 60), rng.random(60)) for _ in range(3)]
    dets += [table([], [], [])]*more
    order = range(len(truths)) if order is None else order
    return match_lesions([dets[i] for i in order], [truths[i] for i in order])

def test_the_order_of_images_does_not_matter():
    a,b = some_hits(),some_hits([2,0,1])
    for k in ('MA','EX'): assert all(np.array_equal(x, y) for x,y in zip(froc_curve(a, k), froc_curve(b, k)))

def test_healthy_images_move_only_the_axis():
    (f,s),(f2,s2) = (froc_curve(some_hits(more=m), 'MA') for m in (0,10))
    assert np.array_equal(s, s2) and np.allclose(f2, f*3/13)

@pytest.mark.parametrize('off,hit', [(0,1),(3,1),(5,1),(6,0)])
def test_a_peak_may_miss_by_two_pixels(off, hit):
    h = match_lesions([table([30],[40+off],[1])], [dict(MA=disk(30,40))])
    assert len(h.links)==hit

def test_neighbors_stay_two_and_the_nearer_is_hit():
    two = disk(30,40)|disk(30,49) # a gap of two pixels
    h = match_lesions([table([30,30],[44,45],[1,.5])], [dict(MA=two)])
    assert len(h.lesions)==2 and sorted(h.links.tolist())==[[0,0],[1,1]]
    diagonal = np.zeros((10,10), bool)
    diagonal[2,2] = diagonal[3,3] = True
    assert len(match_lesions([table([2],[2],[1])], [dict(MA=diagonal)]).lesions)==1

def test_a_component_hits_all_that_it_overlaps():
    two = disk(30,40)|disk(30,49)
    m = np.zeros((120,160)); m[30,38:52] = 1; m[90:92,90:95] = .5
    h = match_lesions([detections(m, by='components', above=.5)], [dict(MA=two)])
    assert sorted(h.links.tolist())==[[0,0],[0,1]] and len(h.candidates)==2
    assert froc_curve(h, 'MA')[0].max()==1 and froc_curve(h, 'MA')[1].tolist()==[0,1,1]

def test_conventions():
    "An untyped peak on another type: no alarm where generous, one where strict"
    h = match_lesions([table([60,80,5],[60,100,5],[.9,.5,.7])], blobs()[:1])
    assert h.search('MA').alarms.tolist()==[.7] and h.search('MA', strict=True).alarms.tolist()==[.9,.7]
    assert h.search('EX', strict=True).best.tolist()==[.9]
    t = match_lesions([table([60,80,5],[60,100,5],[.9,.5,.7], type=['MA','MA','EX'])], blobs()[:1])
    assert t.search('EX').best.tolist()==[-np.inf] and t.search('MA', strict=True).alarms.tolist()==[.9]
    assert t.search('EX').alarms.tolist()==[.7]==t.search('EX', strict=True).alarms.tolist()

def test_where_experts_disagree_nobody_is_blamed():
    "Marked by two of four as exudate: an alarm of any type there at level 3, none where it is spared; a lesion at level 2"
    share = np.zeros((120,160)); share[disk(30,40,5)] = .5; share[disk(80,100,5)] = 1
    t = [table([30,80,5],[40,100,5],[.9,.8,.7], type=['MA','EX','MA'])]
    h = match_lesions(t, [dict(EX=share, MA=disk(5,140))])
    assert h.search('MA').alarms.tolist()==[.9,.7] and h.search('MA', spare=True).alarms.tolist()==[.7]
    assert h.search('MA', True, spare=True).alarms.tolist()==[.7] and len(h.search('EX', spare=True).best)==1
    assert froc(h, n_boot=9, spare=True).loc['MA','reached']==1<froc(h, n_boot=9).loc['MA','reached']
    assert len(match_lesions(t, [dict(EX=share, MA=disk(5,140))], level=2).search('EX').best)==2
    solid = match_lesions(t, [dict(EX=share>.6, MA=disk(5,140))]) # one mask, no experts: nothing is in dispute
    assert not solid.disputed.any()
    parts = match_lesions([detections((share>0)*1., by='components', above=.5)], [dict(EX=share)])
    assert parts.disputed.tolist()==[True,False] or parts.disputed.tolist()==[False,True]

def test_levels_of_agreement():
    share = np.zeros((120,160))
    for k in (1,2,3,4): share[disk(30,40,10-2*k)] = k/4
    area = [match_lesions([table([30],[40],[1])], [dict(HE=share)], level=k).lesions.area[0] for k in (1,2,3,4)]
    assert area==[int(disk(30,40,10-2*k).sum()) for k in (1,2,3,4)]
    assert match_lesions([table([30],[40],[1])], [dict(HE=np.float32(63*4/255)*(share==1))], level=4).lesions.area[0]==area[3] # 252 of 255

def test_peaks_keep_their_distance_and_leave_the_rim():
    rng = np.random.default_rng(0)
    m,field = rng.random((200,200)),disk(100,100,90,(200,200))
    d = detections(m, field, blur=0, radius=.03)
    p = d[['y','x']].to_numpy()
    far = np.hypot(*(p[:,None]-p[None]).T)
    assert far[far>0].min()>4 and np.hypot(*(p-100).T).max()<90*.95+1
    assert len(detections(m, field, most=7))==7 and detections(m, field).score.is_monotonic_decreasing
    ring = np.where(disk(100,100,88,(200,200))&~disk(100,100,86,(200,200)), 1., 0)
    assert len(detections(ring, field))==0 and len(detections(ring, field, edge=0))>0
    slope = np.tile(np.linspace(0, 1, 200), (200,1)) # highest beyond the rim: nothing inside is a peak
    assert len(detections(slope, field))==0

def test_a_plateau_is_told_by_its_middle():
    "As in maps by occlusion, flat in cells of a stride: no peak lies to one side of what it shows"
    rng = np.random.default_rng(0)
    off = []
    for _ in range(40):
        m,(y,x),(h,w) = np.zeros((120,160)),rng.integers(10, 90, 2),rng.integers(1, 16, 2)
        m[y:y+h,x:x+w] = 1
        d = detections(m, blur=0, edge=0)
        assert len(d)==1
        off.append((d.y[0]-y-(h-1)/2, d.x[0]-x-(w-1)/2))
    assert np.abs(off).max()<=.5
    ring = np.where(disk(60,80,20)&~disk(60,80,15), 1., 0)
    d = detections(ring, blur=0, radius=.001)
    assert ring[d.y[0],d.x[0]]==1 # the middle of a ring is no peak

def test_of_equal_peaks_near_by_one_is_kept():
    m = np.zeros((256,256))
    m[100,100] = m[100,103] = m[100,106] = m[100,112] = 1
    d = detections(m, blur=0, radius=.02) # 5 pixels
    assert d[['y','x']].to_numpy().tolist()==[[100,100],[100,106],[100,112]]
    for seed in range(5):
        m = np.random.default_rng(seed).integers(0, 4, (90,120))
        p = detections(m, blur=0, radius=.03, most=9999)[['y','x']].to_numpy(float)
        far = np.hypot(*(p[:,None]-p[None]).T)
        assert far[far>0].min()>4 and len(p)>9

def test_corners_of_pixels_that_touch_are_told_by_the_higher():
    m = np.zeros((40,60))
    m[10,10],m[11,11] = 1,2
    assert detections(m, blur=0)[['y','x','score']].to_numpy().tolist()==[[11,11,2]]

# --- intervals, differences, images

def hundred(seed=0, skill=0.):
    rng = np.random.default_rng(seed)
    dets,truths = [],[]
    for i in range(60):
        y,x = rng.integers(10, 110),rng.integers(10, 150)
        truths.append(dict(MA=disk(y,x)) if i%3 else {})
        t = table(np.r_[rng.integers(0, 120, 9), y], np.r_[rng.integers(0, 160, 9), x], np.r_[rng.random(9), rng.random()+skill])
        dets.append(t if i%3 else t[:-1])
    return dets,truths

def test_intervals_and_differences():
    (a,truths),(b,_) = hundred(skill=.3),hundred(skill=0)
    who = np.arange(60)//2
    x,y = (match_lesions(o, truths, who) for o in (a, b))
    t,u,d = froc(x, n_boot=300),froc(y, n_boot=300),froc(x, against=y, n_boot=300)
    for c in ('1 FP','4 FP','CPM'):
        assert t[c]['MA'].low<t[c]['MA'].value<t[c]['MA'].high and d[c]['MA'].value==pytest.approx(t[c]['MA'].value-u[c]['MA'].value)
    assert d['CPM']['MA'].low>0 and d['CPM']['MA'].p<.02 and froc(x, against=x, n_boot=50)['CPM']['MA'].p==1
    wide = froc(match_lesions(a, truths, np.arange(60)//20), n_boot=300)['1 FP']['MA']
    assert wide.value==t['1 FP']['MA'].value and wide[:3]!=t['1 FP']['MA'][:3]
    assert froc(x, n_boot=300).equals(t) and not froc(x, n_boot=300, seed=1).equals(t)
    alone = froc(x, healthy=True, n_boot=20)
    assert alone['1 FP']['MA'].value==pytest.approx(max(s for f,s in zip(*froc_curve(x, 'MA', healthy=True)) if f<=1))
    with pytest.raises(DataError, match='same images and lesions'): froc(x, against=match_lesions(b, truths))

def test_image_level():
    a,truths = hundred(skill=1.)
    h = match_lesions(a, truths)
    assert lesion_auc(h, n_boot=50).auc['MA'].value==pytest.approx(np.mean([[(s>t)+.5*(s==t) for t in m[False]] for m in [
        {k:[o.score.max() for o,q in zip(a, truths) if bool(q)==k] for k in (True,False)}] for s in m[True]]))
    none = lesion_auc(match_lesions([table([], [], [])]*2, [dict(MA=disk(9,9)),{}]), n_boot=5)
    assert none.auc['MA'].value==.5 and (none['with']['MA'],none['without']['MA'])==(1,1)

def test_a_figure_that_nothing_varies_has_a_formula_interval():
    h = match_lesions([table([30],[40],[1]),table([20],[20],[1])], [dict(MA=disk(30,40)),dict(MA=disk(20,20))])
    e = froc(h, n_boot=20)['1 FP']['MA']
    assert e.value==1 and e.low<.5 and e.method.startswith('Wilson')

def some_ill(seed, n, m):
    "Of `n` people `m` have lesions, three or four each, which are found more or less often by person"
    rng = np.random.default_rng(seed)
    ill,owns = np.arange(n)<m,rng.normal(size=n)
    image = np.repeat(np.arange(n), np.where(ill, 1+rng.poisson(3, n), 0))
    alarm = np.repeat(np.arange(n), rng.poisson(6, n))
    best,false = 1+owns[image]+rng.normal(size=len(image)),rng.normal(size=len(alarm))
    a,b = np.argsort(-best),np.argsort(-false)
    return L.Search(best[a], image[a], np.ones(len(a)), false[b], alarm[b], np.ones(n))

def test_an_interval_hangs_on_those_who_have_the_lesion(monkeypatch):
    "Six people with lesions among 300: with all of them for Student's t the CPM's interval held the truth in 88 of 100 studies"
    class Hits:
        def __init__(self, s): self.s,self.patient = s,np.arange(len(s))
        def search(self, type): return self.s
    def cpm(s): return float(sensitivities(np.arange(len(s)), s)['CPM'])
    truth = cpm(some_ill(10**6, 50_000, 1000))
    es = [L.froc_row(Hits(some_ill(i, 300, 6)), 'MA', 1, n_boot=300)['CPM'] for i in range(150)]
    assert all(e.method.startswith('patient bootstrap, BCa') for e in es)
    assert np.mean([e.low<=truth<=e.high for e in es])>=.92

def test_a_resample_without_a_healthy_eye_tells_nothing():
    "Where no healthy eye of five in thirty is drawn, no rate of alarms is known, and not all is found; of two there is no interval"
    rng = np.random.default_rng(0)
    truths = [{} if i<5 else dict(MA=disk(30,40)) for i in range(30)]
    h = match_lesions([table(np.r_[rng.integers(0, 120, 20),30], np.r_[rng.integers(0, 160, 20),40], rng.random(21)) for _ in truths], truths)
    e = froc(h, healthy=True)['1 FP']['MA']
    n = int(e.method.split(', ')[2].split()[0])
    assert 0<n<9 and e.high<1 and e.method==f'patient bootstrap, BCa, {n} of 1000 resamples left out'
    h = match_lesions([table([30],[40],[1])]*12, [{}]*2+truths[-10:])
    assert froc(h, healthy=True, n_boot=300)['1 FP']['MA'].method==TOO_FEW

def test_a_type_without_lesions_and_no_healthy_image():
    h = match_lesions([table([30],[40],[1])], [dict(MA=disk(30,40))], types=['MA','SE'])
    t = froc(h, n_boot=5)
    assert t['CPM']['SE'].method=='undefined: no lesion of type SE' and t.lesions['SE']==0
    assert froc(h, healthy=True, n_boot=5)['CPM']['MA'].method=='undefined: no image without a lesion'
    with pytest.raises(DataError, match='no image has a lesion of type SE'): froc_curve(h, 'SE')
    assert str(lesion_auc(h, n_boot=5).auc['SE']).startswith('undefined')

def test_empty_tables_are_no_trouble():
    h = match_lesions([table([], [], [])]*3, blobs())
    t = froc(h, n_boot=5)
    assert all(e.value==0 for e in t['10 FP']) and (t.reached==0).all()
    for by in ('peaks','components'): assert len(detections(np.zeros((30,30)), by=by))==0==len(detections(-np.ones((30,30)), by=by))

def one(*a, **k): return lambda: match_lesions([table([5],[5],[1.])], *a, **k)
SPOT = disk(30,40)

@pytest.mark.parametrize('f,why', [
    (lambda: match_lesions([detections(np.ones((50,60)))], [dict(MA=SPOT)]), r"map has shape \(50, 60\) and the mask of MA \(120, 160\)"),
    (one([dict(MA=SPOT)], types=['MO']), "unknown type of lesion 'MO'; did you mean"),
    (lambda: match_lesions([table([5],[5],[1.], type=['XX'])], [dict(MA=SPOT)]), "unknown type of lesion 'XX'"),
    (one([dict(MA=SPOT*255)]), 'share of experts who marked a pixel, 0 to 1'),
    (one([dict(MA=np.where(SPOT, np.nan, 0.))]), 'share of experts'),
    (one([dict(MA=np.zeros((3,4,5)))]), 'has two dimensions'),
    (one([dict(MA=SPOT)], level=0), '1 to 4, not 0'),
    (one([dict(MA=SPOT)], patient=[1,2]), '1 truths, candidates of 1 images, and patients of 2'),
    (one([]), 'no images'),
    (one([dict(MA=SPOT)], patient=[None]), 'patient'),
    (lambda: detections(np.ones((9,9)), np.zeros((9,9))), 'the field is empty'),
    (lambda: detections(np.ones((9,9)), np.ones((9,8))), 'to one size'),
    (lambda: detections(np.full((9,9), np.nan)), 'NaN'),
    (lambda: detections(np.ones((9,9,3))), 'two-dimensional'),
    (lambda: detections(np.ones((9,9)), by='blobs'), 'unknown kind of candidates'),
    (lambda: detections(np.ones((9,9)), by='components', above=95), '`above=95`: a quantile'),
    (lambda: detections(np.ones((9,9)), radius=-1), '`radius=-1`'),
    (lambda: detections({}), 'there are no maps'),
    (lambda: froc(one([{}])()), 'no image has a lesion of any type'),
    (lambda: froc(one([dict(MA=SPOT)])(), at=(0,)), 'above 0'),
    (lambda: froc(one([dict(MA=SPOT)])(), at=(np.inf,)), 'above 0'),
    (lambda: froc(one([dict(MA=SPOT)])(), weigh='pixels'), "unknown weight 'pixels'"),
    (lambda: plot_froc(one([dict(MA=SPOT)])(), 'EX'), "unknown type of lesion 'EX'")])
def test_bad_input_is_told_in_a_sentence(f, why):
    with pytest.raises((DataError,EyeError), match=why) as e: f()
    assert '\n' not in str(e.value)

def test_plot():
    import matplotlib.pyplot as plt
    a,truths = hundred(skill=.3)
    ax = plot_froc({'a net':match_lesions(a, truths), 'noise':match_lesions(hundred()[0], truths)}, 'MA', n_boot=20, source='phantom')
    assert len(ax.lines)==2 and 'CPM' in ax.get_legend().get_texts()[0].get_text() and any('PHANTOM' in o.get_text() for o in ax.texts)
    assert ax.get_xscale()=='log'
    ax.figure.canvas.draw() # a perfect map's curve runs along the top: the legend stands below
    assert ax.get_legend().get_window_extent().y1<ax.xaxis.label.get_window_extent().y0
    plt.close('all')

# --- real eyes

DATA = os.environ.get('FUNDUS_TEST_DATA')
real = pytest.mark.skipif(not DATA, reason='FUNDUS_TEST_DATA names no folder')

def region(o):
    "A row of the folder's table of regions as an outline: its angles, in radians, turn with the clock"
    v = np.array([float(a) for a in o.coords_in_1500x1152.replace(' ', ',').split(',')])
    if o.shape=='polygon': return o.type,'',o.shape,v.reshape(-1,2),[],0.
    return o.type,'',o.shape,v[None,:2],list(v[2:4]),-np.degrees(v[4]) if o.shape=='ellipse' else 0.

@real
def test_outlines_of_real_eyes_are_drawn_as_their_masks():
    from fundus_fastai.data.sets import draw_outlines
    df,n = pd.read_csv(f'{DATA}/diaretdb1/annotations/regions.csv'),0
    for image,g in list(df.groupby('image_id'))[:8]:
        each = [draw_outlines(pd.DataFrame([region(o) for o in e.itertuples()], columns=['type','confidence','shape','points','radii','angle']),
                              (590,768), 768/1500) for _,e in g.groupby('expert')]
        for k in ('MA','HE','EX','SE'):
            f = f'{DATA}/diaretdb1/masks/{image}_{k}.png'
            if not os.path.exists(f): continue
            ours,theirs = np.sum([e[k] for e in each if k in e], 0),np.array(Image.open(f))/63
            for level in (1,2):
                a,b = ours>=level,theirs>level-.5
                if b.sum()>500: # theirs is the maximum over a reduced pixel: a little wider
                    assert 2*(a&b).sum()/(a.sum()+b.sum())>.85, (image, k, level)
                    n += 1
    assert n>15

@real
def test_contrast_points_at_exudates_of_real_eyes():
    from fundus_fastai.image.recipe import field_mask
    from fundus_fastai.image.read import read_image
    from fundus_fastai.explain.attribution import contrast_map
    df = pd.read_csv(f'{DATA}/diaretdb1/labels.csv')
    ims = [read_image(f'{DATA}/diaretdb1/{o}') for o in df.image]
    fields = [field_mask(o) for o in ims]
    mask = lambda o, im: np.array(Image.open(f'{DATA}/diaretdb1/{o}'))/np.float32(252) if isinstance(o, str) else np.zeros(im.shape[:2], bool)
    truths = [dict(EX=mask(o, im)) for o,im in zip(df.mask_EX, ims)]
    seen = match_lesions([detections(contrast_map(im, f), f) for im,f in zip(ims, fields)], truths)
    noise = [np.random.default_rng(i).random(im.shape[:2]) for i,im in enumerate(ims)]
    blind = match_lesions([detections(m, f, blur=1) for m,f in zip(noise, fields)], truths)
    assert len(seen.lesions)==79 and len(seen)==28
    assert froc(seen, 10, against=blind, n_boot=300)['CPM']['EX'].low>0
    assert .2<froc(seen, 10, n_boot=5)['10 FP']['EX'].value<.35 # a fourth: far from what a net should do

@pytest.mark.parametrize('by', ['peaks','components'])
def test_an_empty_map_is_refused(by):
    "OpenCV had ended Python"
    with pytest.raises(DataError, match=r'not \(0, 0\)'): detections(np.zeros((0,0)), by=by)

@pytest.mark.parametrize('change,says', [(dict(score=np.nan),'no score'), (dict(score='a'),'no score'), (dict(y=np.nan),'no place')])
def test_candidates_without_place_or_score_are_told(change, says):
    "A NaN had counted as a lesion that nothing found: a sensitivity of 0"
    m = np.zeros((40,40))
    m[10,10] = 1
    with pytest.raises(DataError, match=says): match_lesions([detections(m).assign(**change)], [{'MA':m>0}])
    with pytest.raises(DataError, match='is a dict'): match_lesions([detections(m)], [m>0])

def test_types_count_where_all_images_tell_them():
    "One table without types: a candidate of any type may hit any lesion, in all images"
    truths = [dict(MA=SPOT),dict(MA=SPOT)]
    typed,plain = table([30],[40],[1.], type=['EX']),table([30],[40],[1.])
    assert 'type' in match_lesions([typed,typed], truths).candidates and 'type' not in match_lesions([typed,plain], truths).candidates
    assert match_lesions([typed,typed], truths).search('MA').best.tolist()==[-np.inf]*2 and match_lesions([typed,plain], truths).search('MA').best.tolist()==[1,1]

def test_the_mean_of_no_candidates_is_none():
    "`top=0` had said an AUC of .5"
    from fundus_fastai.explain.lesions import lesion_auc
    m = np.zeros((40,40))
    m[10,10] = 1
    found = match_lesions([detections(m)]*2, [{'MA':m>0},{}])
    for top in (0,-1,1.5):
        with pytest.raises(DataError, match='`top` is to be'): lesion_auc(found, top)
