"Vessel lines against shapes whose measures are known"
import cv2, numpy as np, pytest
from fundus_fastai.core import DataError
from fundus_fastai.anatomy.graph import fractal_dimension, line_curvature, line_turns, line_widths, lines, middling, skeleton, smooth, vessel_graph

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

def test_a_skeleton_tears_nothing_and_is_thin():
    rng = np.random.default_rng(0)
    for _ in range(12):
        m = cv2.GaussianBlur(rng.normal(size=(70,90)), (0,0), 3)>.06
        s = skeleton(m)
        n,lab = cv2.connectedComponents(m.astype(np.uint8), connectivity=8)
        holes = [cv2.connectedComponents((~np.pad(o, 1)).astype(np.uint8), connectivity=4)[0] for o in (m,s)]
        assert not (s&~m).any() and (skeleton(s)==s).all() and holes[0]==holes[1]
        for k in range(1, n): # a spot of a few pixels may vanish
            if (lab==k).sum()>30: assert cv2.connectedComponents((s&(lab==k)).astype(np.uint8), connectivity=8)[0]==2

def test_lines_of_a_star_and_of_a_ring():
    m = np.zeros((140,140), np.uint8)
    for a in (10, 100, 190, 280): cv2.line(m, (70,70), (70+round(60*np.cos(np.deg2rad(a))),70+round(60*np.sin(np.deg2rad(a)))), 1, 5)
    assert sorted(len(o)>40 for o in lines(skeleton(m)))==[True]*4
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
    assert line_turns(p, k)==pytest.approx(want)
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

def test_arteries_of_another_size_are_told():
    with pytest.raises(DataError, match=r'as the other map: \(64, 64\), and not the shape \(32, 64\)'): vessel_graph(np.ones((64,64)), np.ones((32,64)))
    with pytest.raises(DataError, match='`spur` is to be a whole number'): vessel_graph(np.ones((64,64)), spur='long')
