"Maps side by side: every picture under its map, gaps left out, phantoms marked"
import numpy as np, pytest, torch
from matplotlib import pyplot as plt
from PIL import Image
from fundus_fastai.core import DataError
from fundus_fastai.explain.heatmap import (blend, evidence_inside, map_scale, overlay, save_overlay, show_maps, to_gray,
                                           top_region)

rng = np.random.default_rng(0)
im,big = rng.random((20,30)),rng.random((40,60,3))
heat,lesion = rng.normal(size=(20,30)),np.zeros((20,30), bool)
lesion[5:9,5:9] = True

@pytest.fixture(autouse=True)
def no_figures_left():
    yield
    plt.close('all')

def drawn(axs): return [len(ax.images) for ax in axs.flat]

def test_gray_as_pillow_sees_it():
    "Bytes, 16 bits, with opacity, channels first; what is normalized is stretched"
    b = np.round(big*255).astype(np.uint8)
    want = np.asarray(Image.fromarray(b).convert('L'))/255
    rgba = np.dstack([b, np.full(b.shape[:2], 9, np.uint8)])
    for o in (b, Image.fromarray(b), torch.from_numpy(b).permute(2,0,1), rgba, b.astype(np.uint16)*257, b/255): assert np.abs(to_gray(o)-want).max()<.003
    assert to_gray(b[...,:1])==pytest.approx(b[...,0]/255) and to_gray(b[...,0]//2).max()<=.5 # what is dark stays dark
    assert to_gray(np.array([[-1.,0],[1,3]])).ravel().tolist()==[0,.25,.5,1]
    for shape in ((2,20,30),(1,3,20,30),(20,)):
        with pytest.raises(DataError, match='not one picture'): to_gray(np.zeros(shape))

def test_whole_numbers_of_wide_types_are_bytes_or_16_bits():
    "numpy's own integers, as arithmetic leaves them, came out black"
    b = np.round(im*255).astype(np.uint8)
    for o in (b.astype(int), b.astype(np.int32), torch.from_numpy(b).long(), b.astype(int)*257): assert np.abs(to_gray(o)-b/255).max()<1e-3, o.dtype

def test_pictures_above_their_maps_in_any_form():
    "Channels first, normalized, none at all: what `to_gray` takes can be shown, colors stay where they are some"
    forms = big, torch.from_numpy(big).permute(2,0,1), big-.5, big[...,0], None
    axs = show_maps(list(forms), [heat]*5, pictures=True, cols=5)
    assert [ax.images[0].get_array().shape if ax.images else None for ax in axs[0]]==[(40,60,3)]*2+[(40,60)]*2+[None]
    assert [len(o.images) for o in axs[1]]==[2]*4+[1]
    assert drawn(show_maps(None, [heat]))==[1]
    for none in ([], [None]):
        with pytest.raises(DataError, match='no map to draw'): show_maps(im, none)

def test_the_strongest_share_of_a_map():
    m = rng.permutation(200).reshape(10,20)-100.
    assert set(m[top_region(m, .1)])==set(range(80,100)) and set(m[top_region(m, 1)])==set(range(1,100)) # of evidence for alone
    assert not top_region(-np.abs(m)-1, .1).any() and not top_region(m*0).any()

def test_a_truth_is_outlined_in_a_blend():
    out = blend(im, heat*0, mask=lesion)
    rim = np.zeros_like(lesion); rim[5:9,5:9] = True; rim[6:8,6:8] = False
    assert (out[rim]==(255,255,0)).all() and (out[~rim]==blend(im, heat*0)[~rim]).all()

def test_a_map_is_as_opaque_as_was_asked_for():
    for picture,want in ((im,.4),(None,1)):
        cmap = overlay(picture, heat, alpha=.4, mask=lesion, bar=False).images[-1].cmap
        assert [cmap(o)[3] for o in (0.,1.)]==pytest.approx([want]*2)

def test_one_picture_for_all_maps_and_a_picture_for_each():
    assert drawn(show_maps(im, torch.from_numpy(np.stack([heat]*5)), cols=3))==[2]*5+[0]
    axs = show_maps([im,big], [heat,heat], [lesion,None], pictures=True, titles=['a','b'])
    assert axs.shape==(2,2) and drawn(axs)==[1,1,2,2] and [o.get_title() for o in axs.flat]==['a','b','','']
    assert [len(ax.collections)>0 for ax in axs[1]]==[True,False] # the truth is outlined where there is one

def test_a_gap_stays_empty():
    axs = show_maps([None,im], [None,heat], titles=[None,'b'])
    assert drawn(axs)==[0,2] and axs[0,0].get_title()==''

def test_one_scale_for_all_where_it_is_asked_for():
    ends = [[o.images[1].norm.vmax for o in show_maps(im, [heat,2*heat], scale=s).flat] for s in (None,3)]
    assert ends[0][1]==pytest.approx(2*ends[0][0]) and ends[1]==[3,3]

@pytest.mark.parametrize('source,marks', [('phantom',1), ('kaggle',0), ('',0)])
def test_phantoms_are_marked_once(source, marks):
    axs = show_maps(im, [heat,heat], source=source)
    said = [t.get_text() for ax in axs.flat for t in ax.texts]+[t.get_text() for t in axs[0,0].figure.texts]
    assert sum('PHANTOM' in t for t in said)==marks

def test_counts_must_agree():
    with pytest.raises(DataError, match='2 maps, but 1 pictures'): show_maps([im], [heat,heat])
    with pytest.raises(DataError, match='3 titles'): show_maps(im, [heat,heat], titles='abc')

def test_a_map_alone_has_no_picture_under_it():
    ax = overlay(None, heat, mask=lesion, bar=False)
    assert len(ax.images)==1 and ax.images[0].get_array().shape==heat.shape

def test_evidence_inside_of_a_map_that_knows():
    assert evidence_inside(lesion*1., lesion)==dict(share=1, area=lesion.mean(), lift=1/lesion.mean())
    with pytest.raises(DataError, match='choose one image and one class'): map_scale(np.zeros((2,8,8)))
    with np.errstate(all='raise'): none = evidence_inside(-1.*lesion, lesion)
    assert np.isnan([none['share'],none['lift']]).all()

def test_an_effect_of_nothing_is_not_painted(tmp_path):
    "1e-5 of a logit of 25 is no evidence; the scale says so"
    m,im = np.zeros((8,8)),np.full((8,8), 128, np.uint8)
    m[2:4,2:4] = 1e-5
    assert map_scale(m)==np.float32(1e-5) and map_scale(m, 25.)==.025 and map_scale(m, .2)==.001 and map_scale(m*1e6, 25.)==10
    faint,loud = (np.asarray(Image.open(save_overlay(tmp_path/f'{s}.png', im, m, scale=s))).astype(int) for s in (map_scale(m, 25.),map_scale(m)))
    assert np.abs(faint-faint[0,0]).max()<=1 and np.abs(loud-loud[0,0]).max()>50

def test_the_scale_is_said_on_the_picture(tmp_path):
    "In the corner, where there is room; the rest of the picture is as it was"
    m,im = np.zeros((30,40)),np.full((300,400), 128, np.uint8)
    m[3:8,3:8] = 2
    a,b = (np.asarray(Image.open(save_overlay(tmp_path/f'{s}.png', im, m, scale=s, unit='logit'))).astype(int) for s in (2.,.025))
    assert [Image.open(tmp_path/f'{s}.png').text['scale'] for s in (2.,.025)]==['2','0.025'] and map_scale(m*0)==1
    plain = blend(im, m, scale=2.).astype(int)
    assert (a[:250]==plain[:250]).all() and (a[:,:200]==plain[:,:200]).all()
    corner = a[270:,280:]
    assert (corner[-1,-1]==0).all() and (corner>200).all(2).any() # white letters on black
    blue,red = (corner[...,2]-corner[...,0]>100),(corner[...,0]-corner[...,2]>100)
    assert blue.any() and red.any() and np.nonzero(blue)[1].mean()<np.nonzero(red)[1].mean()
    assert (a[270:,280:]!=b[270:,280:]).any() # another number
    small = np.asarray(Image.open(save_overlay(tmp_path/'s.png', im[:40,:40], m)))
    assert (small==blend(im[:40,:40], m)).all() # no room

def test_maps_side_by_side_say_their_scales():
    m = np.zeros((8,8)); m[2:4,2:4] = 1e-5
    axs = list(show_maps(im, [m,m,m], scale=[map_scale(m, 25.),map_scale(m),None]).flat)[:3]
    assert [o.images[1].norm.vmax for o in axs]==pytest.approx([.025,1e-5,1e-5])
    assert [o.texts[0].get_text() for o in axs]==['±0.025','±1e-05','±1e-05']
    with pytest.raises(DataError, match='1 scales'): show_maps(im, [m,m], scale=[1.])

@pytest.mark.parametrize('size', [64, (0,8), (-4,8), (8,8,3)])
def test_a_size_of_one_number_is_told(size):
    from fundus_fastai.explain.heatmap import resize_map
    with pytest.raises(DataError, match='height and width'): resize_map(np.zeros((8,8)), size)
