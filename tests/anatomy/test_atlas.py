"Atlas: an eye lies where all eyes lie, a person has one vote, a planted place is found, and what is not there is not claimed"
import json, shutil
from functools import partial
import cv2, numpy as np, pandas as pd, pytest, torch
from fundus_fastai.anatomy import atlas as module
from fundus_fastai.anatomy.atlas import (DISC, PLACES, Places, TMaps, Maps, age_bands, atlas, before, by_person, cluster_test, dealt, frame_maps,
                                         frame_matrix, frame_part, frame_pixel, frame_shape, frames_of, in_frame, input_matrix, least_p, people_of, region_table, regions, same_files)
from fundus_fastai.anatomy.landmarks import Landmarks
from fundus_fastai.cli import main
from fundus_fastai.core import DataError
from fundus_fastai.explain.maps import FRAME, map_section
from fundus_fastai.explain.occlusion import load_map
from fundus_fastai.image.recipe import Eye
from fundus_fastai.phantom.fundus import phantom_fundus, save_fundus
from fundus_fastai.run.folder import only_writer
from fundus_fastai.vision.data import eye_dls
from fundus_fastai.vision.learner import eye_learner
from fundus_fastai.vision.model import load_model, save_model
from fundus_fastai.vision.steps import predict_rows
from nets import tiny

cv2.setNumThreads(1)

def truth(e):
    "Disc and fovea of a phantom, by its truth"
    (dx,dy,dw,dh),(fx,fy,*_) = (((a+c-1)/2,(b+d-1)/2,c-a,d-b) for a,b,c,d in (e.disc, e.fovea))
    return Landmarks(dx, dy, dw, dh, 0, fx, fy, e.eye, shape=e.image.shape[:2])

def vessels(e): return np.any(list(e.vessels.values()), 0).astype(np.float32)

def smooth(n, width=48, seed=0, grain=1.5):
    h,w = frame_shape(width)
    a = np.random.default_rng(seed).normal(size=(n,h,w)).astype(np.float32)
    a = np.stack([cv2.GaussianBlur(o, (0,0), grain) for o in a])
    return a/a.std()

@pytest.mark.parametrize('eye', 'RL')
@pytest.mark.parametrize('turn', [0, 10, -15])
def test_fovea_and_disc_lie_where_they_should(eye, turn):
    "Turned, shifted and scaled, a point of the eye comes to the same place of the frame"
    side = 1 if eye=='R' else -1
    def eye_at(scale, dx, dy):
        a = np.deg2rad(turn)
        def at(x, y): return 300+dx+scale*(side*x*np.cos(a)-y*np.sin(a)), 250+dy+scale*(side*x*np.sin(a)+y*np.cos(a))
        return at, frame_matrix(Landmarks(*at(100, -12), 30, 35, 0, *at(0, 0), eye), 128)
    found = []
    for scale,dx,dy in ((1,0,0),(2.5,-40,70)):
        at,m = eye_at(scale, dx, dy)
        found.append([m@[*at(*p),1] for p in ((100,-12),(0,0),(40,60))])
    assert np.allclose(found[0], found[1]) and np.allclose(found[0][0], frame_pixel(DISC)) and np.allclose(found[0][1], frame_pixel(0j))

def test_a_mirrored_eye_is_the_same_eye():
    e = phantom_fundus([], 3, 5, eye='R', camera='round', size=192)
    o = truth(e)
    mirrored = Landmarks(191-o.disc_x, o.disc_y, 1, 1, 0, 191-o.fovea_x, o.fovea_y, 'L')
    a = in_frame(e.image, frame_matrix(o, 64), e.field, width=64)
    b = in_frame(np.ascontiguousarray(e.image[:,::-1]), frame_matrix(mirrored, 64), np.ascontiguousarray(e.field[:,::-1]), width=64)
    assert np.isnan(a).any() and np.nanmax(np.abs(a-b))<1

def test_outside_the_field_nothing_was_seen():
    m = frame_matrix(Landmarks(70, 50, 9, 9, 0, 50, 52, 'R'), 64)
    inside = np.zeros((100,100), bool)
    inside[20:80,30:90] = True
    a = in_frame(np.ones((100,100)), m, inside, width=64)
    assert np.isnan(a[0,0]) and np.isfinite(a[27,27]) and set(np.unique(a[np.isfinite(a)]))=={1.}
    assert frame_matrix(Landmarks()) is None and frame_matrix(Landmarks(5, 5, 1, 1, 0, 5, 5, 'R')) is None

@pytest.mark.parametrize('recipe', ['crop','square','channel:red',''])
def test_where_an_input_lies(recipe):
    "A point of the photograph, brought to the input by the recipe itself, is where the matrix says"
    from fundus_fastai.image.recipe import as_recipe
    e = phantom_fundus([], 3, 5, camera='clipped', size=200)
    im = cv2.copyMakeBorder(e.image, 10, 30, 25, 5, cv2.BORDER_CONSTANT)
    x,y = 118,96
    spot = im.copy()
    cv2.circle(spot, (x,y), 5, (0,255,255), -1)
    r = as_recipe(recipe)
    def seen(o): return r(o, 128) if len(r) else cv2.resize(o, (128,128), interpolation=cv2.INTER_AREA)
    d = np.abs(seen(spot).astype(float)-seen(im)).sum(-1)
    d[d<.5*d.max()] = 0
    gy,gx = np.mgrid[:128,:128]
    at = (gx*d).sum()/d.sum(),(gy*d).sum()/d.sum()
    assert np.abs(np.array(at)-input_matrix(im, 128, recipe)@[x,y,1]).max()<.8

def test_matrices_undo_each_other():
    n = np.array([[2,0,3],[0,4,5.]])
    assert np.allclose(before(n, n), np.eye(2, 3))

def test_one_vote_a_person():
    x = np.array([[[1.]],[[3.]],[[9.]],[[np.nan]]], np.float32)
    a,who = by_person(x, ['a','a','b','b'])
    assert a.ravel().tolist()==[2,9] and who.tolist()==['a','b']

def test_t_is_students():
    from scipy.stats import ttest_ind
    x,y = smooth(20).reshape(20, -1)[:,:50],np.arange(20)<8
    assert np.allclose(TMaps(x)(y[None].astype(np.float32))[0], ttest_ind(x[y], x[~y]).statistic, atol=1e-3)
    x[3,::2] = np.nan
    assert np.allclose(TMaps(x)(y[None].astype(np.float32))[0], ttest_ind(x[y], x[~y], nan_policy='omit').statistic, atol=1e-3)

def test_deals_stay_within_bands():
    y,band = np.arange(40)%4==0,np.arange(40)//10
    lots = dealt(y, band, 50, rng=np.random.default_rng(0))
    for k in range(4): assert (lots[:,band==k].sum(1)==y[band==k].sum()).all()
    assert len(np.unique(lots, axis=0))>45 and (dealt(y, None, 5, rng=np.random.default_rng(0)).sum(1)==10).all()
    assert np.bincount(age_bands([*range(20),np.nan])+1).tolist()==[1,5,5,5,5]
    assert age_bands([50,*[np.nan]*3]).tolist()==[0,-1,-1,-1] and age_bands([50,60,70]).tolist()==[0]*3

def test_bands_hold_age_fixed():
    "Four quarters left a seventh of its scatter within them; and people of one age stand in one band, in whatever order"
    age = np.random.default_rng(0).normal(60, 10, 400)
    band = age_bands(age)
    within = sum(age[band==k].var()*(band==k).sum() for k in range(40))
    assert set(np.bincount(band))=={10} and within/400<.02*age.var()
    years = age.round()
    band = age_bands(years)
    assert all(len({*band[years==o]})==1 for o in years) and len({*band})>20 and np.ptp(age_bands([50]*30))==0

def test_planted_place_is_found():
    "1 mm wide, .8 standard deviations, 60 people a side, in noise with grains of .4 mm: in 19 of 20 draws"
    y = np.arange(120)<60
    gy,gx = np.mgrid[:40,:48]
    spot = .8*np.exp(-((gx-30)**2+(gy-15)**2)/(2*2.7**2)) # 1 mm
    hits = [cluster_test(smooth(120, seed=k, grain=1)+y[:,None,None]*spot, y, n_perm=99, names='ab') for k in range(20)]
    right = [len(o.table) and o.table.p[0]<=.05 and o.masks[0][15,30] and o.table['higher in'][0]=='b' for o in hits]
    assert sum(right)>=19, right

def test_nothing_is_claimed_where_nothing_is():
    rng,p = np.random.default_rng(1),[]
    x = smooth(40, seed=5)
    for k in range(40):
        t = cluster_test(x, rng.permutation(40)<20, n_perm=99, seed=k).table
        p.append(t.p.min() if len(t) else 1.)
    assert np.mean(np.array(p)<=.05)<=.175, p

@pytest.mark.parametrize('binary', [False,True])
def test_few_people_have_no_smaller_p_than_their_deals_allow(binary):
    "Of 20 deals of 3 and 3 two are the one that was made: rounding had let one of them, or both, pass for others"
    y,p = np.arange(6)<3,[]
    for k in range(6):
        x = np.random.default_rng(k).normal(size=(6,12,10)).astype(np.float32)
        x[y,2:7,2:7] += 4
        if binary: x = (x>2).astype(np.float32)
        p.append(cluster_test(x, y, n_perm=1000, seed=k).table.p.min())
    assert min(p)>.06, p

def test_least_p_is_that_of_all_deals():
    "By listing the deals; the mirror of a deal is as heavy, where it is one"
    from itertools import permutations
    for y,band in [('110','000'),('1100','0000'),('11000','00000'),('101011','001122'),('1000','0011'),('1100','0011'),('10110','00011')]:
        deals = {''.join(o) for o in permutations(y) if all(sorted(a for a,k in zip(o, band) if k==b)==sorted(a for a,k in zip(y, band) if k==b) for b in band)}
        mine = {y, y.translate(str.maketrans('01', '10'))} & deals
        assert least_p([int(o) for o in y], list(band))==len(mine)/len(deals), (y, band)

def test_a_report_says_that_so_few_could_not_differ(tmp_path):
    df = pd.DataFrame(dict(path='x', patient=list('abcdef'), sex=list('fffmmm'), lost=False, reason=''))
    for n,said in ((3, True),(8, False)):
        x,y = np.random.default_rng(0).normal(size=(2*n,27,32)).astype(np.float32),np.arange(2*n)<n
        res = cluster_test(x, y, n_perm=20)
        module.tell_atlas(tmp_path, 'sex', df, res=res, x=x, y=y, names='fm', told=df, what='maps')
        assert ('allow no p below 0.1' in (tmp_path/'report.html').read_text())==said

def test_what_any_row_of_a_person_tells_counts(monkeypatch, tmp_path):
    "The band of a person was that of the first row, though its age were missing; a row without the group was left out without a word"
    df,asked = pd.DataFrame(dict(path='x', patient=np.repeat(list('abcdefgh'), 2), sex=[o for k in 'ffffmmmm' for o in (k,None)], age=[o for k in range(8) for o in (np.nan,50+k)])),{}
    monkeypatch.setattr(module, 'frames_of', lambda df, maps, width: (asked.update(rows=len(df)), (np.zeros((len(df),8,8), np.float32), ['']*len(df)))[1])
    monkeypatch.setattr(module, 'cluster_test', lambda x, y, strata, **kwargs: asked.update(strata=strata, y=y))
    for o in ('tell_atlas','region_table'): monkeypatch.setattr(module, o, lambda *args, **kwargs: pd.DataFrame())
    atlas(df, Maps('photographs'), out=tmp_path/'out')
    assert np.bincount(asked['strata']+1).tolist()==[0,2,2,2,2] and asked['y'].tolist()==[False]*4+[True]*4 and asked['rows']==16

def test_places_that_few_have_seen_are_not_tested():
    x,y = smooth(40),np.arange(40)<20
    x[:38,:,:10] = np.nan
    r = cluster_test(x, y, n_perm=20)
    assert np.isnan(r.d[:,:10]).all() and np.isfinite(r.d[:,12:]).all()
    with pytest.raises(DataError, match='3 people'): cluster_test(x, np.arange(40)<2)

def test_d_is_cohens_where_not_everybody_was_seen():
    x,y = smooth(60),np.arange(60)%2==1
    x[y] += .5
    x[:36,:,24:] = np.nan
    a,b = x[~y],x[y]
    m,n = ((~np.isnan(o)).sum(0) for o in (a, b))
    sd = np.sqrt(((m-1)*np.nanvar(a, 0, ddof=1)+(n-1)*np.nanvar(b, 0, ddof=1))/(m+n-2))
    assert np.allclose(cluster_test(x, y, n_perm=20).d, (np.nanmean(b, 0)-np.nanmean(a, 0))/sd, atol=1e-3)

def test_regions_cover_the_frame_once():
    m = regions(96)
    assert (sum(o.astype(int) for o in m.values())==1).all() and all(o.any() for o in m.values())
    t = region_table(np.where(m['center'], 1, 0)[None].astype(np.float32), 96)
    assert t['share center'][0]==1 and t['mean disc'][0]==0

@pytest.fixture(scope='module')
def photos(tmp_path_factory):
    "Six phantom patients with vessels, one black picture, and their table"
    d,rows = tmp_path_factory.mktemp('photos'),[]
    for k in range(1, 7):
        for o in 'LR':
            e = phantom_fundus([], 8, k, eye=o, camera='round', size=192)
            save_fundus(e, d/f'{k}_{o}.jpg', d/f'{k}_{o}.npz')
            cv2.imwrite(str(d/f'{k}_{o}_vessels.png'), (255*vessels(e)).astype(np.uint8))
            rows.append(dict(path=f'{k}_{o}.jpg', patient=k, sex='fm'[k%2], age=30+k))
    cv2.imwrite(str(d/'black.png'), np.zeros((99,99,3), np.uint8))
    rows.append(dict(path='black.png', patient=9, sex='f', age=50))
    pd.DataFrame(rows).to_csv(d/'people.csv', index=False)
    return d

def stop(*args, **kwargs): raise KeyboardInterrupt

def test_command(photos, tmp_path, monkeypatch, capsys):
    run = ['atlas', photos, '--data', photos/'people.csv', '--by', 'sex', '--permutations', 50, '--out', tmp_path/'out']
    assert main(run)==0
    assert {o.name for o in (tmp_path/'out').iterdir()}=={'atlas.npz','atlas.png','clusters.csv','regions.csv','report.html'}
    page = (tmp_path/'out/report.html').read_text()
    assert 'Who is left out' in page and 'not a medical device' in page.lower() and '<script' not in page
    t = pd.read_csv(tmp_path/'out/regions.csv')
    assert len(t)==12 and t['mean temporal arcades'].mean()>t['mean center'].mean()
    with np.load(tmp_path/'out/atlas.npz') as z: assert z['coverage'].shape==frame_shape() and z['coverage'].max()==1
    pd.read_csv(photos/'people.csv')[::-1].to_csv(photos/'turned.csv', index=False)
    assert main(['atlas', photos, '--data', photos/'turned.csv', '--by', 'sex', '--permutations', 50, '--out', tmp_path/'turned'])==0
    for o in ('atlas.npz','clusters.csv','regions.csv'): assert (tmp_path/'out'/o).read_bytes()==(tmp_path/'turned'/o).read_bytes(), o
    assert main(run)==1 and 'is not empty' in capsys.readouterr().err
    def there(): return {o.name:o.read_bytes() for o in (tmp_path/'out').iterdir()}
    before = there()
    assert set(before)=={'atlas.npz','atlas.png','clusters.csv','regions.csv','report.html'}
    with monkeypatch.context() as m:
        m.setattr(module, 'plot_atlas', stop)
        assert main([*run,'--force'])==130
    assert there()==before, "the earlier one, whole, until the new one is"
    assert main(['atlas', tmp_path, '--data', photos/'people.csv', '--out', tmp_path/'no'])==1 and 'neither maps' in capsys.readouterr().err

def test_two_atlases_do_not_meet_in_one_folder(photos, tmp_path, monkeypatch, capsys):
    "The report of one stood beside the picture of the other"
    run = ['atlas', photos, '--data', photos/'people.csv', '--permutations', 50, '--out', tmp_path/'out']
    monkeypatch.setattr(module, 'only_writer', partial(only_writer, patience=0))
    with only_writer(tmp_path/'out'): assert main([*run,'--force'])==1
    assert 'another program is writing' in capsys.readouterr().err and not (tmp_path/'out').exists()

def test_of_too_few_people_nothing_is_left(photos, tmp_path, capsys):
    "An empty folder was, and the sentence told neither how many there were nor why others were left out"
    t = pd.read_csv(photos/'people.csv')
    t[(t.sex=='m')|(t.patient.isin([t.patient[t.sex=='f'].iloc[0], 9]))].to_csv(photos/'few.csv', index=False)
    assert main(['atlas', photos, '--data', photos/'few.csv', '--permutations', 50, '--out', tmp_path/'deep/out'])==1
    err = capsys.readouterr().err
    assert 'has 1 of female and 3 of male' in err and '1 of 9 images are left out: ' in err and 'bring more people' in err
    assert not (tmp_path/'deep/out').exists()

def test_maps_of_a_run_lie_where_the_net_looked(photos, tmp_path):
    "A map that is the input's own green channel comes to lie as the photograph does"
    from fundus_fastai.image.recipe import circle_crop
    run = tmp_path/'run'
    (run/'maps').mkdir(parents=True)
    old = json.loads((__import__('pathlib').Path(__file__).parents[1]/'run/old_run/run/config.json').read_text())
    (run/'config.json').write_text(json.dumps(old|dict(recipe='crop', format=2)))
    path = photos/'1_R.jpg'
    im = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    m = circle_crop(im, 96)[...,1].astype(np.float32)
    np.savez(run/'maps/1_R_occlusion.npz', map=np.stack([0*m, m]), classes=np.array(['CNV','NORMAL']), baseline=np.zeros(2), method='occlusion')
    pd.DataFrame([dict(path=str(path), answer='x', map='1_R_occlusion.npz', overlay='x')]).to_csv(run/'maps/maps.csv', index=False)
    df = pd.DataFrame(dict(path=[str(path), str(photos/'1_L.jpg')]))
    (a,b),why = frames_of(df, Maps(run), 64)
    o = truth(phantom_fundus([], 8, 1, eye='R', camera='round', size=192))
    c = in_frame(im, frame_matrix(o, 64), width=64)[...,1]
    assert why==['','has no map'] and np.isnan(b).all() and np.nanmedian(np.abs(a-c))<6 and np.corrcoef(a[~np.isnan(a)], c[~np.isnan(a)])[0,1]>.9
    assert np.nanmax(frames_of(df[:1], Maps(run, 'CNV'), 64)[0])==0

def test_photographs_are_asked_by_their_field(photos, tmp_path):
    "A black margin changes nothing of the frame; a gray picture among them has a reason and ends nothing"
    im = cv2.imread(str(photos/'1_R.jpg'))
    odd = dict(plain=im, wide=cv2.copyMakeBorder(im, 0, 0, 80, 80, cv2.BORDER_CONSTANT), gray=cv2.cvtColor(im, cv2.COLOR_BGR2GRAY))
    for k,o in odd.items(): cv2.imwrite(str(tmp_path/f'{k}.png'), o)
    x,why = frames_of(pd.DataFrame(dict(path=[str(tmp_path/f'{k}.png') for k in odd])), Maps('photographs'), 64)
    assert why[:2]==['',''] and why[2].startswith('is gray') and np.isnan(x[2]).all()
    ok = ~np.isnan(x[:2]).any(0)
    assert abs(x[1][ok].std()/x[0][ok].std()-1)<.03

def test_whose_file_it_is(tmp_path, capsys):
    "The same path; a moved one by its folders; by its name alone where names tell people apart"
    def there(top, *names): return [f'{top}/{o}' for o in names]
    four = 'P0/OD.png','P0/OS.png','P7/OD.png','P7/OS.png'
    a,b = there('/old/eyes', *four),there('/new', *four)
    assert same_files(a, a)==dict(zip(a, a)) and capsys.readouterr().err==''
    assert same_files(a, b)==dict(zip(a, b)) and '4 files lie elsewhere now' in capsys.readouterr().err
    assert same_files(a, b[2:])==dict(zip(a[2:], b[2:])) and same_files(a, there('/new/X', 'OD.png','OS.png'))=={}
    assert same_files(a, ['/x/P0/OD.png','/y/P0/OD.png'])=={} # which of the two?
    names = '1_R.jpg','1_L.jpg','2_R.jpg'
    assert same_files(there('/old', *names), there('/new', *names[1:]))==dict(zip(there('/old', *names[1:]), there('/new', *names[1:])))
    assert same_files(['/x/a_R.png'], ['a_R'])=={'/x/a_R.png':'a_R'} # maps of vessels are called after their photograph

@pytest.mark.parametrize('more,why', [(('--permutations',-5), '--permutations is to be at least 20'), (('--permutations',0), 'at least 20'), (('--width',0), '--width is to be at least 32'),
                                      (('--width',2), 'at least 32'), (('--width',999999), '--width is to be at most 1024')])
def test_numbers_out_of_reach(photos, tmp_path, capsys, more, why):
    assert main(['atlas', photos, '--data', photos/'people.csv', '--out', tmp_path/'out', *more])==1
    assert why in capsys.readouterr().err and not (tmp_path/'out').exists()

def test_vessels_that_were_stopped_are_told(tmp_path, capsys):
    for o in ('1_vessels.png','features.csv.part'): (tmp_path/o).touch()
    assert {*Maps(tmp_path).files}=={'1'} and 'features.csv.part is not finished' in capsys.readouterr().err

def test_a_class_of_what_has_none(tmp_path):
    "`fundus atlas vessels --of DRUSEN` showed the vessels"
    with pytest.raises(DataError, match='leave it out for photographs'): Maps('photographs', 'DRUSEN')
    (tmp_path/'1_vessels.png').touch()
    with pytest.raises(DataError, match='holds no maps of a net, of which `of=DRUSEN`'): Maps(tmp_path, 'DRUSEN')

def test_maps_of_no_run(tmp_path):
    "Maps in a folder of their own do not tell how their net opens images"
    pd.DataFrame([dict(path='1.jpg', answer='x', map='1.npz')]).to_csv(tmp_path/'maps.csv', index=False)
    with pytest.raises(DataError, match=f'{tmp_path.name} holds maps, but lies in no run folder.*without `out`'): Maps(tmp_path)
    assert Maps(tmp_path, recipe='crop').recipe=='crop'

def test_phantom_people_are_photographs(monkeypatch):
    "Phantoms in the layout of a set that has people, and photographs"
    got = {}
    monkeypatch.setattr('fundus_fastai.anatomy.atlas.open_frame', lambda name, opts: got.update(opts, name=name))
    people_of('phantom', 'sex', dict(patients=9))
    assert got==dict(name='odir5k', source='phantom', patients=9)

def test_questions_that_cannot_be(photos):
    df = pd.DataFrame(dict(path=['x'], patient=['1'], sex=['f']))
    with pytest.raises(DataError, match='two groups'): atlas(df, Maps('photographs'), 'sex', out='nowhere')
    with pytest.raises(DataError, match='no column'): atlas(df, Maps('photographs'), 'hair', out='nowhere')
    df = pd.DataFrame(dict(path=list('wxyz'), patient=['1',None,'2',np.nan], sex=list('fmfm')))
    with pytest.raises(DataError, match='patient is missing in 2 of 4 rows'): atlas(df, Maps('photographs'), 'sex', out='nowhere')

# --- where a net's evidence lies

def test_places_of_a_photograph():
    "Back in a photograph, right or left, places lie round the true points, and cover it once"
    for eye in 'RL':
        e = phantom_fundus([], 3, 5, eye=eye, camera='round', size=192)
        o,where = truth(e),{k:Places([k])(Eye(e.image)) for k in PLACES}
        assert (sum(m.astype(int) for m in where.values())==1).all()
        for k,x,y in (('disc',o.disc_x,o.disc_y),('macula',o.fovea_x,o.fovea_y)):
            gy,gx = where[k].nonzero()
            assert abs(gx.mean()-x)<6 and abs(gy.mean()-y)<6
    assert (Places(['disc','beyond'])(Eye(e.image))==where['disc']|where['beyond']).all()
    assert Places(['disc'])(Eye(e.image*0, 'black.png')) is None

@pytest.fixture(scope='module')
def run(tmp_path_factory):
    "A run of an untrained net that reads photographs"
    torch.manual_seed(0)
    to,ims = tmp_path_factory.mktemp('run')/'run',[phantom_fundus([], 3, k, size=64).image for k in range(4)]
    df = pd.DataFrame(dict(path=ims, label=list('ABAB'), split=['train']*2+['valid']*2))
    learn = eye_learner(eye_dls(df, image='fundus', size=48, bs=2, workers=0, recipe='crop'), tiny, weights=None)
    save_model(learn, to, 'disease', source='phantom')
    return to

def test_windows_of_one_place_and_shares_by_region(photos, run, tmp_path, capsys):
    "Asked at the disc alone, windows have the values that they have among all; maps lie in one frame"
    files,how = [photos/'1_R.jpg', photos/'2_L.jpg', photos/'black.png'],['--window',8,'--stride',8]
    assert main(['explain', run, *files[:2], *how, '--frame', '--out', tmp_path/'all'])==0
    assert 'outer ring' in capsys.readouterr().out
    main(['explain', run, *files, *how, '--only', 'disc', '--out', tmp_path/'disc'])
    assert 'no map' in capsys.readouterr().err
    t = pd.read_csv(tmp_path/'disc/maps.csv')
    assert len(t)==2
    for f in t['map']:
        a,b = (load_map(tmp_path/k/f)['map'] for k in ('disc','all'))
        some = np.abs(a).sum(0)>0
        assert 0<some.mean()<.2 and np.allclose(a[:,some], b[:,some], atol=1e-5)
    shares = pd.read_csv(tmp_path/'all/regions.csv')
    assert len(shares)==2 and np.allclose(shares.filter(like='share').sum(axis=1), 1, atol=1e-4) and np.allclose(shares.filter(like='area').sum(axis=1), 1, atol=1e-4)
    with np.load(tmp_path/'all/frame.npz') as z: assert z.files==sorted(z.files), "in whatever order Python's sets come"
    page = (tmp_path/'all/frame.html').read_text()
    assert 'Evidence by region' in page and '<script' not in page
    assert main(['explain', run, *files[:2], *how, '--resume', '--out', tmp_path/'all'])==0 and (tmp_path/'all/frame.html').exists()
    assert main(['explain', run, files[0], *how, '--force', '--out', tmp_path/'all'])==0
    assert {o.suffix for o in (tmp_path/'all').iterdir()}=={'.csv','.npz','.png'} and not {*FRAME} & {o.name for o in (tmp_path/'all').iterdir()}
    assert main(['explain', run, files[0], '--only', 'disk', '--out', tmp_path/'no'])==1 and 'did you mean disc' in capsys.readouterr().err
    assert main(['explain', run, files[0], '--only', 'disc', '--method', 'grad_cam', '--out', tmp_path/'no'])==1
    assert '--only' in capsys.readouterr().err

def test_a_report_lays_its_maps_of_photographs_over_each_other(photos, run):
    "Shares of the evidence and a mean map beside the maps; nothing for two people, or where all is dark"
    learn,names = load_model(run, 'cpu'),['1_R.jpg','2_L.jpg','3_R.jpg','3_L.jpg','black.png']
    df = pd.DataFrame(dict(path=[str(photos/o) for o in names], label=list('ABABA'), patient=list('12339'), split='test'))
    def section(t): return map_section(learn, predict_rows(learn, t, photos, workers=0), photos, n=9, window=16, stride=16)[0]
    (_,body,figs),few = section(df),section(df[df.patient!='1'])
    shares = body[-1].set_index('region')
    assert '4 of these 5 maps, of 3 people' in body[-2] and abs(shares.evidence.sum()-1)<.01 and shares.area['beyond']>shares.area['disc']>0
    assert len(figs)==6 and 'retinal frame' in figs[-1][1]
    assert len(few[1])==2 and len(few[2])==4 # the maps alone
    assert frame_part(learn, df.assign(path='black.png', answer='A').iloc[:0], [])==([],[])

def test_no_frame_without_landmarks(tmp_path):
    cv2.imwrite(str(tmp_path/'x.png'), np.zeros((60,60,3), np.uint8))
    np.savez(tmp_path/'x.npz', map=np.zeros((1,8,8)), baseline=np.ones(1), classes=['a'], method='occlusion')
    pd.DataFrame([dict(path=tmp_path/'x.png', answer='a', map='x.npz')]).to_csv(tmp_path/'maps.csv', index=False)
    with pytest.raises(DataError, match='no map'): frame_maps(tmp_path, '')

@pytest.mark.parametrize('verb', [('biomarkers',), ('atlas','photographs','--data')])
def test_a_column_that_is_not_there_names_a_flag_that_is(photos, tmp_path, capsys, verb):
    "It said: choose with --label, which neither command has"
    assert main([*verb, photos/'people.csv', '--by', 'Gerat', '--out', tmp_path/'o'])==1
    err = capsys.readouterr().err
    assert "unknown column 'Gerat'" in err and 'choose with --by COL' in err and '--label' not in err

def test_an_unknown_sex_is_told_of_its_own_column(tmp_path, capsys):
    "It was said of 'the column label', which the table has not"
    pd.DataFrame(dict(path=['a.png','b.png'], patient=[1,2], Gender=['f','O'])).to_csv(tmp_path/'t.csv', index=False)
    for o in 'ab': cv2.imwrite(str(tmp_path/f'{o}.png'), np.zeros((9,9,3), np.uint8))
    assert people_of(tmp_path/'t.csv', 'sex', {}).sex.isna().sum()==1
    assert "values of the column 'sex' are no known sex" in capsys.readouterr().err
