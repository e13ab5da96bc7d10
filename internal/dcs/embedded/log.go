package embedded

import (
	"context"
	"log/slog"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// logger makes etcd's log part of ours. etcd is talkative: only its errors are worth a line by default.
func logger(log *slog.Logger) *zap.Logger { return zap.New(core{log.With("component", "etcd")}) }

type core struct{ log *slog.Logger }

func level(l zapcore.Level) slog.Level {
	switch {
	case l > zapcore.ErrorLevel:
		return slog.LevelError
	case l == zapcore.ErrorLevel:
		return slog.LevelWarn
	default:
		return slog.LevelDebug
	}
}

func (c core) Enabled(l zapcore.Level) bool { return c.log.Enabled(context.Background(), level(l)) }

func (c core) With(fields []zapcore.Field) zapcore.Core {
	return core{c.log.With(attributes(fields)...)}
}

func (c core) Check(e zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return checked.AddCore(e, c)
	}
	return checked
}

func (c core) Write(e zapcore.Entry, fields []zapcore.Field) error {
	c.log.Log(context.Background(), level(e.Level), e.Message, attributes(fields)...)
	return nil
}

func (c core) Sync() error { return nil }

func attributes(fields []zapcore.Field) (out []any) {
	encoder := zapcore.NewMapObjectEncoder()
	for _, f := range fields {
		f.AddTo(encoder)
	}
	for key, value := range encoder.Fields {
		out = append(out, slog.Any(key, value))
	}
	return out
}
