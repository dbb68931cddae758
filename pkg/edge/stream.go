package edge

import (
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	reflectionv1alpha "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
)

// isOwnStream tells streams of the server from those of the application.
func isOwnStream(method string) bool {
	return method == healthv1.Health_Watch_FullMethodName ||
		method == reflectionv1.ServerReflection_ServerReflectionInfo_FullMethodName ||
		method == reflectionv1alpha.ServerReflection_ServerReflectionInfo_FullMethodName
}

// endWithServer ends streams that would otherwise last as long as the client
// likes (health watches, reflection) when the server drains. Streams of the
// application are accepted work and may finish.
func (s *Server) endWithServer(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	if !isOwnStream(info.FullMethod) {
		return next(srv, stream)
	}
	own := &ownStream{ServerStream: stream}
	done := make(chan error, 1)
	s.limit.enter()
	go func() {
		defer s.limit.leave()
		done <- next(srv, own)
	}()
	select {
	case err := <-done:
		return err
	case <-s.draining:
	}
	select {
	case err := <-done:
		return err
	case <-own.told():
		// Returning ends the stream, and with it the handler.
		return newStatus(codes.Unavailable, "", nil, "the edge stops").Err()
	}
}

// ownStream remembers whether the last that a health watch was told is that
// the server serves.
type ownStream struct {
	grpc.ServerStream

	mu      sync.Mutex
	serving bool
	waiting chan struct{} // closed when serving turns false; nil if nobody waits
}

// SendMsg implements grpc.ServerStream.
func (s *ownStream) SendMsg(m any) error {
	r, ok := m.(*healthv1.HealthCheckResponse)
	serving := r.GetStatus() == healthv1.HealthCheckResponse_SERVING
	if ok && serving {
		// The client may believe it before the call below returns.
		s.mu.Lock()
		s.serving = true
		s.mu.Unlock()
	}
	err := s.ServerStream.SendMsg(m)
	if ok {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.serving = err == nil && serving
		if !s.serving && s.waiting != nil {
			close(s.waiting)
			s.waiting = nil
		}
	}
	return err
}

// told returns a channel that is closed once the client does not believe any
// more that the server serves. Health must have said so before. One caller.
func (s *ownStream) told() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	told := make(chan struct{})
	if s.serving {
		s.waiting = told
	} else {
		close(told)
	}
	return told
}
