"Vessel lines against shapes whose measures are known"
import cv2, numpy as np, pytest
from scipy.ndimage import binary_dilation, convolve, label
from fundus_fastai.core import DataError
from fundus_fastai.anatomy.graph import fractal_dimension, line_curvature, line_pieces, line_turns, line_widths, lines, middling, skeleton, smooth, vessel_graph

def bar(width, turn, side=160, soft=True):
    y,x = np.mgrid[:side,:side]-side/2+.3
    t = np.deg2rad(turn)
    across,along = np.abs(y*np.cos(t)-x*np.sin(t)),np.abs(x*np.cos(t)+y*np.sin(t))
    return (np.clip(width/2-across+.5, 0, 1) if soft else (across<=width/2))*(along<60.)

@pytest.mark.parametrize('turn', (0, 13, 30, 45, 75, 90))
def test_widths_of_bars(turn):
    for w in range(2, 13):
        m = bar(w, turn)
        p,d,_ = smooth(max(lines(skeleton(m>.5)), key=len))
        assert abs(middling(line_widths(p, d, m))-w)<.3, w

@pytest.mark.parametrize('turn', (0, 13, 30, 60))
def test_widths_of_hard_masks(turn):
    "Of a mask of true and false, where no edge is between pixels"
    for w in range(3, 13):
        g = vessel_graph(bar(w, turn, soft=False))
        assert abs(g.width[g.length.argmax()]-w)<.3, (w, g.width.round(2).tolist())

def spare(s):
    "Pixels of a skeleton without which it ended nowhere else and held together as before"
    p = np.pad(s, 1)
    for y,x in np.argwhere(s):
        o = p[y:y+3,x:x+3].copy()
        o[1,1] = False
        if o.sum()>1 and label(o, np.ones((3,3)))[1]==1 and not o[[0,1,1,2],[1,0,2,1]].all(): yield y,x

def test_widths_end_where_the_vessel_does():
    "From the middle to where the map falls below one half on either side; off the vessel, or wider than the reach, there is none"
    m = np.zeros((60,100), np.float32)
    m[10:30] = 1
    def at(*ys): return line_widths(np.array([[50.,y] for y in ys]), np.array([[1.,0]]*len(ys)), m).tolist()
    assert at(20, 14, 25)==[20]*3 and np.isnan(at(35, 5)).all()
    m[19:22] = .55 # a light reflex along the middle
    assert at(20, 14)==[20,20]
    m[19:22] = m[30:41] = 1
    assert at(25)==[31] and np.isnan(at(22, 28)).all() # 18.5 pixels down, and up
    assert middling(np.r_[np.nan,0,0,3:9,900,900])==5.5

def test_a_skeleton_tears_nothing_and_is_thin():
    rng = np.random.default_rng(0)
    for _ in range(12):
        m = cv2.GaussianBlur(rng.normal(size=(70,90)), (0,0), 3)>.06
        s = skeleton(m)
        n,lab = cv2.connectedComponents(m.astype(np.uint8), connectivity=8)
        holes = [cv2.connectedComponents((~np.pad(o, 1)).astype(np.uint8), connectivity=4)[0] for o in (m,s)]
        assert not (s&~m).any() and (skeleton(s)==s).all() and holes[0]==holes[1] and not list(spare(s))
        for k in range(1, n): # a spot of a few pixels may vanish
            if (lab==k).sum()>30: assert cv2.connectedComponents((s&(lab==k)).astype(np.uint8), connectivity=8)[0]==2

def test_lines_of_a_star_and_of_a_ring():
    m = np.zeros((140,140), np.uint8)
    for a in (10, 100, 190, 280): cv2.line(m, (70,70), (70+round(60*np.cos(np.deg2rad(a))),70+round(60*np.sin(np.deg2rad(a)))), 1, 5)
    sk = skeleton(m)
    assert sorted(len(o)>40 for o in lines(sk))==[True]*4
    joints,pieces = line_pieces(sk)
    near = convolve(sk.astype(int), np.ones((3,3)), mode='constant')-1
    assert (joints==binary_dilation(sk&(near>2), np.ones((3,3)))).all() and sum(map(len, pieces))==(sk&~joints).sum()
    ring = cv2.circle(np.zeros((140,140), np.uint8), (70,70), 50, 1, 5)
    g = vessel_graph(ring)
    assert len(g)==1 and abs(g.length[0]-2*np.pi*50)<30 and abs(g.curvature[0]**.5-1/50)<.003
    assert not len(vessel_graph(ring*0)) and not len(vessel_graph(np.eye(8)))

def test_turns_of_waves():
    def wave(n, a):
        x = np.linspace(0, 300, 3000)
        m = np.zeros((120,340), np.uint8)
        cv2.polylines(m, [np.stack([x+20,60+a*np.sin(2*np.pi*n*x/300)], 1).round().astype(np.int32)], False, 1, 5)
        p,d,dd = smooth(max(lines(skeleton(m)), key=len))
        return line_turns(p, line_curvature(d, dd))
    a = [wave(n, 10) for n in (1, 2, 4)]
    assert a[0]<a[1]<a[2] and wave(2, 4)<a[1] and wave(0, 0)==0, a

def test_turns_as_grisan_has_them():
    "Of parts that bend one way, arc over chord less one, by hand; what is straight or a pixel or two is no part of its own"
    t = np.linspace(0, np.pi, 50)
    half = np.stack([10*(1-np.cos(t)),10*np.sin(t)], 1)
    p = np.concatenate([half, [20,0]+half[1:]*[1,-1]])
    k = np.r_[-np.ones(50),np.ones(49)]*.1
    arc = 98*20*np.sin(np.pi/98)
    def over(n): return n*2*np.sin(np.pi/98)/(2*np.sin(n*np.pi/98))-1 # n steps of the half circle
    want = (1/2)/arc*(over(49)+over(48))
    assert line_turns(p, k)==pytest.approx(want) and line_turns(p, -k)==line_turns(p, k*.08)==line_turns(p, k) and line_turns(p, k*.03)==0
    odd = k.copy()
    odd[49:51] = .1,-.1 # a lone pixel on each side
    assert line_turns(p, odd)==pytest.approx((1/2)/arc*(over(48)+over(47)))
    k[20:30] = .003
    assert line_turns(p, k)==pytest.approx(want) and line_turns(p, abs(k))==0

def test_dimension():
    assert abs(fractal_dimension(np.eye(500))-1)<.05 and abs(fractal_dimension(np.ones((600,600)))-2)<.05
    assert np.isnan(fractal_dimension(np.zeros((99,99)))) and np.isnan(fractal_dimension(np.ones((9,9))))

@pytest.mark.parametrize('mask, why', [(np.zeros((0,0)), 'two dimensions'), (np.zeros((9,9,3), bool), r'not the shape \(9, 9, 3\)'), (np.zeros(9), 'two dimensions'),
    ('mask.png', 'two dimensions'), (np.full((9,9), 'x'), '0 to 1'), (np.full((9,9), np.nan), '0 to 1'), (np.full((9,9), 255, np.uint8), 'divide one of 0 to 255 by 255')])
def test_what_is_no_map_of_vessels_is_told(mask, why):
    "OpenCV had ended these; a mask of 255 had made vessels 17 % wider"
    with pytest.raises(DataError, match=why): vessel_graph(mask)

@pytest.mark.parametrize('spur', (0, 1, 3))
def test_a_piece_of_few_pixels_is_no_line(spur):
    "A spline of three pixels was a traceback of scipy's"
    m = np.zeros((60,90), bool)
    m[30:35,10:80] = m[5,5] = m[10,5:7] = m[15,5:8] = True
    m[[50,51,51,52],[6,5,7,6]] = True # a ring of four
    assert len(vessel_graph(m, spur=spur))==1

def test_a_line_of_just_the_spur_is_one():
    m = np.zeros((20,40), bool)
    m[10,5:17] = True # 12 pixels
    assert len(lines(m, 12))==1 and len(lines(m, 13))==0
    assert lines(m, 12)[0][[0,-1]].tolist() in ([[5,10],[16,10]], [[16,10],[5,10]]) # from end to end

def test_arteries_are_a_share_of_the_line():
    "And a map of less than one half is no vessel"
    m,a = np.zeros((2,60,120), bool)
    m[28:33,10:110] = a[:,80:] = True
    g = vessel_graph(m, a)
    x,y = lines(skeleton(m))[0].T
    assert (y==30).all() and len(g)==1 and g.artery[0]==pytest.approx((x>=80).mean()) and .2<g.artery[0]<.4 and vessel_graph(m).artery.isna().all()
    assert len(vessel_graph(m*.6))==1 and not len(vessel_graph(m*.4))

def test_arteries_of_another_size_are_told():
    with pytest.raises(DataError, match=r'as the other map: \(64, 64\), and not the shape \(32, 64\)'): vessel_graph(np.ones((64,64)), np.ones((32,64)))
    with pytest.raises(DataError, match='`spur` is to be a whole number'): vessel_graph(np.ones((64,64)), spur='long')
